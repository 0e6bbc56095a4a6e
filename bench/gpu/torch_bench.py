"""PyTorch on the same GPU: times of the stages that the bench measures, as JSON of seconds.

Plain and compiled modules of the same shapes with random fp16 weights, attention through
scaled_dot_product_attention; and a transformers InstructBlipForConditionalGeneration of InstructBLIP-Vicuna-7B's
shape from pixels to 60 tokens with five beams, its vision encoder and Q-Former run on the five pictures as a
batch, their visual tokens put one after the other before the prompt, as plain InstructBLIP would look at several
pictures. Nothing is downloaded. Every part that fails is reported in the JSON and on standard error and leaves the
others alone.

    python3 torch_bench.py --out torch.json [--seconds 200] [--scale 1]
"""

import argparse
import json
import statistics
import sys
import time
import traceback

import torch
import torch.nn.functional as F
from torch import nn

IMAGES, WORDS, PROMPT, BEAMS, TOKENS = 5, 16, 60, 5, 60


class VisionBlock(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        b, n, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, width))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Vision(nn.Module):
    """EVA-ViT-g/14."""

    def __init__(self, depth, width=1408, heads=16, hidden=6144):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 14, stride=14)
        self.cls = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, 257, width) * 0.02)
        self.blocks = nn.ModuleList(VisionBlock(width, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels):
        x = self.patches(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class RmsNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x):
        h = x.float()
        return (h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * self.gain


class LlamaLayer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = RmsNorm(width), RmsNorm(width)
        self.qkv, self.o = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gate_up, self.down = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def forward(self, x, keys, values, at, mask, cos, sin):
        b, n, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        rotate = lambda t: t * cos + torch.cat([-t[..., 64:], t[..., :64]], -1) * sin
        q, k = rotate(q), rotate(k)
        keys.index_copy_(2, at, k)
        values.index_copy_(2, at, v)
        attended = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
        x = x + self.o(attended.transpose(1, 2).reshape(b, n, width))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Llama(nn.Module):
    """Vicuna-7B with a static cache, as fast PyTorch code is written."""

    def __init__(self, depth, width=4096, heads=32, hidden=11008, vocabulary=32001, context=320):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.layers = nn.ModuleList(LlamaLayer(width, heads, hidden) for _ in range(depth))
        self.norm, self.head = RmsNorm(width), nn.Linear(width, vocabulary, bias=False)
        angles = torch.outer(torch.arange(context).float(), 10000 ** (-torch.arange(0, 128, 2).float() / 128))
        angles = torch.cat([angles, angles], 1)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        self.heads, self.context = heads, context

    def cache(self, rows):
        make = lambda: torch.zeros(rows, self.heads, self.context, 128, dtype=torch.float16, device=self.cos.device)
        return [(make(), make()) for _ in self.layers]

    def forward(self, ids, at, cache):
        x = self.embedding(ids)
        mask = (torch.arange(self.context, device=ids.device)[None, :] <= at[:, None])[None, None]
        cos, sin = self.cos[at].to(x.dtype), self.sin[at].to(x.dtype)
        for layer, (keys, values) in zip(self.layers, cache):
            x = layer(x, keys, values, at, mask, cos, sin)
        return self.head(self.norm(x[:, -1])).float()


def seconds(run, repeats=20, warm_ups=3):
    for _ in range(warm_ups):
        run()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return statistics.median(times)


def instruct_blip(scale):
    from transformers import InstructBlipConfig, InstructBlipForConditionalGeneration

    layers = lambda n: max(1, round(n * scale))
    config = InstructBlipConfig(
        vision_config=dict(hidden_size=1408, intermediate_size=6144, num_hidden_layers=layers(39), num_attention_heads=16,
                           image_size=224, patch_size=14),
        qformer_config=dict(vocab_size=30523, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
                            intermediate_size=3072, cross_attention_frequency=2, encoder_hidden_size=1408),
        text_config=dict(model_type="llama", vocab_size=32001, hidden_size=4096, intermediate_size=11008,
                         num_hidden_layers=layers(32), num_attention_heads=32, max_position_embeddings=2048),
        num_query_tokens=32)
    with torch.device("cuda"):
        torch.set_default_dtype(torch.float16)
        try:
            return InstructBlipForConditionalGeneration(config).eval()
        finally:
            torch.set_default_dtype(torch.float32)


def end_to_end(model, beams):
    pixels = torch.randn(IMAGES, 3, 224, 224, device="cuda", dtype=torch.float16)
    words = torch.randint(5, 30000, (IMAGES, WORDS), device="cuda")
    prompt = torch.randint(5, 32000, (1, PROMPT), device="cuda")

    def run():
        features = model.vision_model(pixels).last_hidden_state
        queries = model.query_tokens.expand(IMAGES, -1, -1)
        ones = lambda *shape: torch.ones(shape, dtype=torch.long, device="cuda")
        out = model.qformer(input_ids=words, attention_mask=ones(IMAGES, queries.shape[1] + WORDS), query_embeds=queries,
                            encoder_hidden_states=features, encoder_attention_mask=ones(IMAGES, features.shape[1]))
        visual = model.language_projection(out.last_hidden_state[:, : queries.shape[1]]).reshape(1, -1, 4096)
        inputs = torch.cat([visual, model.language_model.get_input_embeddings()(prompt)], 1)
        return model.language_model.generate(inputs_embeds=inputs, attention_mask=ones(1, inputs.shape[1]), num_beams=beams,
                                             max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False, pad_token_id=0)

    run()
    times = []
    for _ in range(2):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--seconds", type=float, default=200, help="start nothing more after this")
    parser.add_argument("--scale", type=float, default=1, help="share of the layers, for a trial")
    arguments = parser.parse_args()
    begin = time.time()
    result = {"torch": torch.__version__, "device": torch.cuda.get_device_name(), "scale": arguments.scale, "failed": {}}

    def part(name, action):
        if time.time() - begin > arguments.seconds:
            result["failed"][name] = "no time left"
            return
        try:
            result[name] = action()
            print(f"torch {name}: {result[name]:.6g}", file=sys.stderr, flush=True)
        except Exception as error:  # a peer that fails must not take the run with it
            result["failed"][name] = f"{type(error).__name__}: {error}"[:500]
            traceback.print_exc()
        with open(arguments.out, "w") as file:
            json.dump(result, file, indent=2)

    torch.manual_seed(1)
    torch.set_grad_enabled(False)
    square = lambda: torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    a, b = square(), square()
    part("matmul_bf16_flops", lambda: 2 * 8192**3 / seconds(lambda: a @ b))
    block = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    other = torch.empty_like(block)
    part("copy_bytes_per_second", lambda: 2 * block.numel() / seconds(lambda: other.copy_(block)))
    del a, b, block, other

    vision = Vision(max(1, round(39 * arguments.scale))).half().cuda().eval()
    pixels = torch.randn(IMAGES, 3, 224, 224, device="cuda", dtype=torch.float16)
    part("vision-1", lambda: seconds(lambda: vision(pixels[:1])))
    part("vision-5", lambda: seconds(lambda: vision(pixels)))
    compiled = torch.compile(vision)
    part("vision-5-compiled", lambda: seconds(lambda: compiled(pixels)))
    del vision, compiled

    rows = IMAGES * 32 + PROMPT
    with torch.device("cuda"):
        llama = Llama(max(1, round(32 * arguments.scale))).half().eval()
    ids = torch.randint(3, 32000, (BEAMS, rows), device="cuda")
    at = torch.arange(rows, device="cuda")
    one, five = llama.cache(1), llama.cache(BEAMS)
    part("prefill", lambda: seconds(lambda: llama(ids[:1], at, one)))
    step = torch.tensor([rows], device="cuda")
    part("decode-1", lambda: seconds(lambda: llama(ids[:1, :1], step, one)))
    part("decode-5", lambda: seconds(lambda: llama(ids[:, :1], step, five)))
    fast = torch.compile(llama, mode="reduce-overhead")
    part("decode-1-compiled", lambda: seconds(lambda: fast(ids[:1, :1], step, one), warm_ups=5))
    part("decode-5-compiled", lambda: seconds(lambda: fast(ids[:, :1], step, five), warm_ups=5))
    del llama, fast, one, five
    torch.cuda.empty_cache()

    model = []
    def first():
        model.append(instruct_blip(arguments.scale))
        return end_to_end(model[0], 1)
    part("request-1", first)
    if model:
        part("request-5", lambda: end_to_end(model[0], BEAMS))


if __name__ == "__main__":
    main()
