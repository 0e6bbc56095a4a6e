// exp and log in double by arithmetic alone, within a few units of the last place: there is no device
// library, and a token's noise must be the same on every backend.
#ifndef SAMENGINE_DOUBLE_MATH_H_
#define SAMENGINE_DOUBLE_MATH_H_

#include "device.h"

namespace sam {

constexpr double kLn2High = 6.93147180369123816490e-01;
constexpr double kLn2Low = 1.90821492927058770002e-10;

// e^x; 0 below the smallest normal number. Not for x above 700.
SAM_DEVICE double Exp(double x) {
  if (!(x > -708)) return 0;
  double turns = x * 1.4426950408889634;
  int k = (int)(turns + (turns < 0 ? -0.5 : 0.5));
  double r = Fma(-k, kLn2Low, Fma(-k, kLn2High, x));
  // Taylor up to r^13 / 13!: |r| is at most 0.35.
  double sum = 1.0 / 6227020800;
  sum = Fma(sum, r, 1.0 / 479001600);
  sum = Fma(sum, r, 1.0 / 39916800);
  sum = Fma(sum, r, 1.0 / 3628800);
  sum = Fma(sum, r, 1.0 / 362880);
  sum = Fma(sum, r, 1.0 / 40320);
  sum = Fma(sum, r, 1.0 / 5040);
  sum = Fma(sum, r, 1.0 / 720);
  sum = Fma(sum, r, 1.0 / 120);
  sum = Fma(sum, r, 1.0 / 24);
  sum = Fma(sum, r, 1.0 / 6);
  sum = Fma(sum, r, 0.5);
  sum = Fma(sum, r, 1.0);
  sum = Fma(sum, r, 1.0);
  return sum * BitsToDouble((uint64_t)(k + 1023) << 52);
}

// Natural logarithm of a positive normal number.
SAM_DEVICE double Log(double x) {
  uint64_t bits = DoubleToBits(x);
  int exponent = (int)(bits >> 52) - 1023;
  double m = BitsToDouble((bits & 0xfffffffffffffull) | 0x3ff0000000000000ull);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    exponent++;
  }
  // 2 atanh(s), |s| at most 0.172.
  double s = (m - 1) / (m + 1);
  double z = s * s;
  double sum = 1.0 / 21;
  sum = Fma(sum, z, 1.0 / 19);
  sum = Fma(sum, z, 1.0 / 17);
  sum = Fma(sum, z, 1.0 / 15);
  sum = Fma(sum, z, 1.0 / 13);
  sum = Fma(sum, z, 1.0 / 11);
  sum = Fma(sum, z, 1.0 / 9);
  sum = Fma(sum, z, 1.0 / 7);
  sum = Fma(sum, z, 1.0 / 5);
  sum = Fma(sum, z, 1.0 / 3);
  return exponent * kLn2High + (2 * s + (2 * s * z * sum + exponent * kLn2Low));
}

}  // namespace sam

#endif  // SAMENGINE_DOUBLE_MATH_H_
