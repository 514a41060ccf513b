"""What the CUDA kernels are compared with, in PyTorch on the same GPU; a JSON line each.

Llama-like shapes: 32 query heads, 8 key/value heads of size 128, bf16, queries and keys already
rotated. `flash`: scaled_dot_product_attention, its flash backend alone. `two_passes`: the SelfExtend
authors' way, flash attention once over the neighbour window and once over the grouped keys before
it, merged by their log-sum-exps. `cudnn`: cuDNN's attention, for orientation.
"""
import json
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention as attention

HEADS, KV_HEADS, DIM, WINDOW = 32, 8, 128, 1024


def median_ms(run, repeats):
    run()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def random(n, heads):
    return torch.randn(1, n, heads, DIM, device="cuda", dtype=torch.bfloat16)


def flash(q, k, v, window=None):
    """[1, n, heads, dim] with fewer key heads; returns the output and its log-sum-exp."""
    result = torch.ops.aten._flash_attention_forward(
        q, k, v, None, None, q.shape[1], k.shape[1], 0.0, True, False,
        window_size_left=None if window is None else window - 1,
        window_size_right=None if window is None else 0)
    return result[0], result[1]


def two_passes(q, grouped_q, k, grouped_k, v, window):
    """Bi-level attention as the authors' flash-attention path computes it."""
    near, near_lse = flash(q, k, v, window)
    n = q.shape[1]
    if n <= window:
        return near
    far, far_lse = flash(grouped_q[:, window:], grouped_k[:, : n - window], v[:, : n - window])
    # Weights of the two passes, [1, n - window, heads, 1].
    weight = torch.sigmoid(far_lse - near_lse[:, :, window:]).transpose(1, 2).unsqueeze(-1)
    rest = near[:, window:]
    rest.copy_(rest + (far - rest) * weight.to(rest.dtype))
    return near


def check_two_passes():
    n, window = 700, 128
    q, gq = random(n, HEADS), random(n, HEADS)
    k, gk, v = (random(n, KV_HEADS) for _ in range(3))
    i = torch.arange(n, device="cuda")
    distance = i[:, None] - i[None, :]
    wide = lambda x: x.float().repeat_interleave(HEADS // x.shape[2], 2).transpose(1, 2)
    near, far = (wide(a) @ wide(b).transpose(2, 3) / DIM**0.5 for a, b in ((q, k), (gq, gk)))
    scores = torch.where(distance < window, near, far).masked_fill(distance < 0, -torch.inf)
    exact = (scores.softmax(-1) @ wide(v)).transpose(1, 2)
    error = (two_passes(q, gq, k, gk, v, window).float() - exact).norm() / exact.norm()
    print(json.dumps({"what": "two_passes_error", "relative": error.item()}), flush=True)
    assert error < 1e-2


def say(**values):
    print(json.dumps(values), flush=True)


def main():
    lengths = [int(n) for n in (sys.argv[1] if len(sys.argv) > 1 else "4096,8192,16384,32768,65536,131072").split(",")]
    say(card=torch.cuda.get_device_name(), torch=torch.__version__, cuda=torch.version.cuda)
    check_two_passes()
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    ms = median_ms(lambda: a @ b, 20)
    say(what="matmul", tflops=2 * 8192**3 / ms / 1e9)
    x = torch.empty(1 << 30, device="cuda", dtype=torch.int32).random_()
    y = torch.empty_like(x)
    ms = median_ms(lambda: y.copy_(x), 10)
    say(what="copy", gb_per_s=2 * x.numel() * 4 / ms / 1e6)
    ms = median_ms(lambda: torch.sum(x, dtype=torch.int32), 10)
    say(what="read", gb_per_s=x.numel() * 4 / ms / 1e6)
    del a, b, x, y
    for n in lengths:
        flops = 2 * n * n * HEADS * DIM
        q, gq = random(n, HEADS), random(n, HEADS)
        k, gk, v = (random(n, KV_HEADS) for _ in range(3))
        repeats = min(30, max(5, 2_000_000 // n))
        heads_first = [x.transpose(1, 2) for x in (q, k, v)]

        def sdpa(backend):
            with sdpa_kernel(backend):
                return attention(*heads_first, is_causal=True, enable_gqa=True)

        runs = {
            "flash": lambda: sdpa(SDPBackend.FLASH_ATTENTION),
            "cudnn": lambda: sdpa(SDPBackend.CUDNN_ATTENTION),
            "two_passes": lambda: two_passes(q, gq, k, gk, v, WINDOW),
        }
        for name, run in runs.items():
            try:
                ms = median_ms(run, repeats)
                say(what="prefill", name=name, tokens=n, attention_ms=ms, tflops=flops / ms / 1e9)
            except Exception as error:
                say(what="prefill", name=name, tokens=n, error=str(error)[:200])
        del q, gq, k, gk, v, heads_first
        torch.cuda.empty_cache()
        layers = min(32, max(2, 262144 // n))
        one = random(1, HEADS).transpose(1, 2)
        stored = [[random(n, KV_HEADS).transpose(1, 2).contiguous() for _ in range(2)] for _ in range(layers)]
        for name, backend in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
            def step():
                with sdpa_kernel(backend):
                    for k, v in stored:
                        attention(one, k, v, enable_gqa=True)
            try:
                step()
                torch.cuda.synchronize()
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    step()
                ms = median_ms(graph.replay, 20) / layers
                say(what="decode", name=name, depth=n, attention_us=ms * 1e3,
                    gb_per_s=n * KV_HEADS * DIM * 4 / ms / 1e6)
                del graph
            except Exception as error:
                say(what="decode", name=name, depth=n, error=str(error)[:200])
        del stored, one
        torch.cuda.empty_cache()


main()
