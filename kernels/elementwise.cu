// Operations that touch each element once. Floor: the bytes read and written.
//
// add_{activation}: y = x + addend; the addend is of the activation type or fp32; y may be x.
//
// copy_{source}_{destination}, copy_i32_i32: elements between views of one shape, converted.
//
// gather_rows_{activation}: y[i] = x[indices[i]].
//
// extract_patches_{activation}: pixels fp32 [images, channels * side, side] cut into patches [images,
// (side / patch)^2, channels * patch * patch], columns ordered channel, row, column.
//
// swiglu_{activation}: y = silu(gate) * up; gate_up [b, m, 2 F], the gate's columns first.
//
// Grid: any number of blocks; ceil(elements of y / block) of them give every thread one element. Block: up to
// 256 threads. No shared memory.
#include "device.h"

namespace sam {

// Calls f(row, column) for every element of a view.
template <class F>
SAM_DEVICE void ForEachElement(const View& y, const F& f) {
  int64_t count = (int64_t)TotalRows(y) * y.columns;
  for (int64_t i = GridThread(); i < count; i += GridThreads()) {
    int row = (int)(i / y.columns);
    f(row, (int)(i - (int64_t)row * y.columns));
  }
}

template <class T>
SAM_DEVICE void AddRows(const AddArguments& a) {
  ForEachElement(a.y, [&](int row, int i) {
    float addend = a.addend.type == kF32 ? RowOf<const float>(a.addend, row)[i]
                                         : ToFloat(RowOf<const T>(a.addend, row)[i]);
    Put(RowOf<T>(a.y, row) + i, ToFloat(RowOf<const T>(a.x, row)[i]) + addend);
  });
}

template <class S, class D>
SAM_DEVICE void Copy(const CopyArguments& a) {
  ForEachElement(a.destination, [&](int row, int i) {
    Put(RowOf<D>(a.destination, row) + i, ToFloat(RowOf<const S>(a.source, row)[i]));
  });
}

template <class T>
SAM_DEVICE void GatherRows(const GatherArguments& a) {
  ForEachElement(a.y,
                 [&](int row, int i) { RowOf<T>(a.y, row)[i] = RowOf<const T>(a.x, a.indices[row])[i]; });
}

template <class T>
SAM_DEVICE void ExtractPatches(const PatchArguments& a) {
  int side = a.pixels.columns;
  int across = side / a.patch;
  ForEachElement(a.y, [&](int row, int i) {
    int image = row / a.y.rows;
    int place = row % a.y.rows;
    int channel = i / (a.patch * a.patch);
    int down = i / a.patch % a.patch;
    int line = channel * side + place / across * a.patch + down;
    const float* pixels =
        (const float*)a.pixels.data + image * a.pixels.batch_stride + line * a.pixels.row_stride;
    Put(RowOf<T>(a.y, row) + i, pixels[place % across * a.patch + i % a.patch]);
  });
}

template <class T>
SAM_DEVICE void SwiGlu(const SwiGluArguments& a) {
  ForEachElement(a.y, [&](int row, int i) {
    const T* x = RowOf<const T>(a.gate_up, row);
    float gate = ToFloat(x[i]);
    Put(RowOf<T>(a.y, row) + i, gate / (1.0f + Exp(-gate)) * ToFloat(x[a.y.columns + i]));
  });
}

}  // namespace sam

#define COPY(source, S, destination, D) \
  SAM_KERNEL(copy_##source##_##destination, CopyArguments, 256) { sam::Copy<S, D>(a); }
#define ELEMENTWISE(suffix, T)                                                             \
  SAM_KERNEL(add_##suffix, AddArguments, 256) { sam::AddRows<T>(a); }                      \
  SAM_KERNEL(gather_rows_##suffix, GatherArguments, 256) { sam::GatherRows<T>(a); }        \
  SAM_KERNEL(extract_patches_##suffix, PatchArguments, 256) { sam::ExtractPatches<T>(a); } \
  SAM_KERNEL(swiglu_##suffix, SwiGluArguments, 256) { sam::SwiGlu<T>(a); }                 \
  COPY(suffix, T, f32, float)                                                              \
  COPY(suffix, T, f16, sam::Half)                                                          \
  COPY(suffix, T, bf16, sam::BFloat)
SAM_FOR_ACTIVATIONS(ELEMENTWISE)

SAM_KERNEL(copy_i32_i32, CopyArguments, 256) {
  sam::ForEachElement(a.destination, [&](int row, int i) {
    sam::RowOf<int32_t>(a.destination, row)[i] = sam::RowOf<const int32_t>(a.source, row)[i];
  });
}
