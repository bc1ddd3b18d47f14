"""The CPU kernels against the torch references, over the shapes that their tiles, panels and pages cut unevenly."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from gpt_oss_triton.kernels.cpu import build, library
from gpt_oss_triton.kernels.cpu.operations import CpuOperations
from gpt_oss_triton.kernels.layout import PagedLayout, Span
from gpt_oss_triton.kernels.moe import ExpertWeights, Mxfp4Experts
from gpt_oss_triton.kernels.mxfp4 import Mxfp4Matrix, quantize
from gpt_oss_triton.kernels.operations import HeadShape, Norm
from gpt_oss_triton.kernels.reference import TorchOperations

CPU = torch.device("cpu")
BF16 = torch.bfloat16


@pytest.fixture(scope="module")
def fast() -> CpuOperations:
    try:
        library.load()
    except build.Unavailable as reason:
        pytest.skip(f"no CPU kernels here: {reason}")
    return CpuOperations()


@pytest.fixture
def reference() -> TorchOperations:
    """In float32, so that only the fast version rounds."""
    return TorchOperations(torch.float32)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def bf16(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return (torch.randn(*shape) * scale).to(BF16)


def assert_near(got: torch.Tensor, want: torch.Tensor, tolerance: float = 0.01) -> None:
    """Largest difference in units of the result's own size: bfloat16 rounds inputs by 1 in 256."""
    assert got.shape == want.shape
    assert torch.isfinite(got).all()
    assert float((got - want).abs().max()) <= tolerance * float(want.abs().max())


# ---------------------------------------------------------------------------------------------- linear


@pytest.mark.parametrize("rows", [0, 1, 2, 11, 12, 13, 25, 64])
@pytest.mark.parametrize(("inputs", "outputs"), [(32, 1), (64, 31), (96, 33), (2880, 64), (512, 1280)])
def test_linear(
    fast: CpuOperations, reference: TorchOperations, rows: int, inputs: int, outputs: int
) -> None:
    weight, bias = bf16(outputs, inputs), bf16(outputs)
    norm = Norm(bf16(inputs), 1e-5)
    x = torch.randn(rows, inputs)
    wide = Norm(norm.weight.float(), norm.eps)
    got = fast.linear(weight, bias, norm)(x)
    want = reference.linear(weight.float(), bias.float(), wide)(x)
    if not rows:
        assert got.shape == want.shape
        return
    assert_near(got, want)
    residual = torch.randn(rows, outputs)
    want = reference.linear(weight.float(), bias.float()).add_to(residual, x)
    assert_near(fast.linear(weight, bias).add_to(residual.clone(), x), want)


def test_a_row_of_a_linear_does_not_depend_on_the_others(fast: CpuOperations) -> None:
    linear = fast.linear(bf16(100, 512), bf16(100), Norm(bf16(512), 1e-5))
    x = torch.randn(29, 512)
    together = linear(x)
    for row in range(len(x)):
        assert torch.equal(linear(x[row : row + 1].contiguous())[0], together[row])


# ---------------------------------------------------------------------------------------------- experts


def dense_experts(count: int, hidden: int, inner: int) -> ExpertWeights:
    return ExpertWeights(
        gate_up=bf16(count, 2 * inner, hidden, scale=hidden**-0.5),
        gate_up_bias=bf16(count, 2 * inner),
        down=bf16(count, hidden, inner, scale=inner**-0.5),
        down_bias=bf16(count, hidden),
        alpha=1.702,
        limit=7.0,
    )


def packed_experts(w: ExpertWeights) -> Mxfp4Experts:
    return Mxfp4Experts(
        gate_up=Mxfp4Matrix(*quantize(w.gate_up)),
        gate_up_bias=w.gate_up_bias,
        down=Mxfp4Matrix(*quantize(w.down)),
        down_bias=w.down_bias,
        alpha=w.alpha,
        limit=w.limit,
    )


def widened(w: ExpertWeights) -> ExpertWeights:
    return ExpertWeights(
        w.gate_up.float(), w.gate_up_bias.float(), w.down.float(), w.down_bias.float(), w.alpha, w.limit
    )


def mixtures(
    fast: CpuOperations, reference: TorchOperations, weights: ExpertWeights | Mxfp4Experts, per_token: int
):
    dense = weights.expanded() if isinstance(weights, Mxfp4Experts) else weights
    count, hidden = dense.down_bias.shape
    # Logits far apart: rounding must not choose other experts than the reference.
    router, bias, norm = bf16(count, hidden), bf16(count, scale=3), bf16(hidden)
    return (
        fast.mixture(router, bias, per_token, weights, Norm(norm, 1e-5)),
        reference.mixture(router.float(), bias.float(), per_token, widened(dense), Norm(norm.float(), 1e-5)),
    )


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("tokens", [0, 1, 5, 13, 100])
@pytest.mark.parametrize(
    ("count", "per_token", "hidden", "inner"),
    [(1, 1, 32, 32), (4, 4, 96, 32), (8, 2, 64, 160), (40, 4, 512, 96)],
)
def test_mixture(
    fast: CpuOperations, reference: TorchOperations, packed: bool, tokens: int, count: int, per_token: int, hidden: int, inner: int,
) -> None:  # fmt: skip
    dense = dense_experts(count, hidden, inner)
    ours, theirs = mixtures(fast, reference, packed_experts(dense) if packed else dense, per_token)
    x = torch.randn(tokens, hidden)
    want = theirs.add_to(x)
    got = ours.add_to(x.clone())
    assert got.shape == want.shape
    # A token whose last expert won by less than rounding may have got another one.
    near = ((got - want).abs() <= 0.02 * want.abs().max()).all(dim=1) if tokens else torch.ones(0)
    assert near.float().sum() >= 0.97 * tokens


def test_a_token_of_a_mixture_does_not_depend_on_the_others(
    fast: CpuOperations, reference: TorchOperations
) -> None:
    mixture, _ = mixtures(fast, reference, packed_experts(dense_experts(8, 64, 64)), 3)
    x = torch.randn(50, 64)
    together = mixture.add_to(x.clone())
    for row in range(len(x)):
        assert torch.equal(mixture.add_to(x[row : row + 1].clone())[0], together[row])


@pytest.mark.parametrize("scale", [0, 1, 2, 240])
def test_scales_at_the_ends_of_the_range(fast: CpuOperations, reference: TorchOperations, scale: int) -> None:
    """Outside of what can be added to a bfloat16's exponent, experts are expanded beforehand."""
    experts = packed_experts(dense_experts(2, 32, 32))
    experts.gate_up.scales[0, 3, 0] = scale
    ours, theirs = mixtures(fast, reference, experts, 2)
    x = torch.randn(3, 32)
    want = theirs.add_to(x)
    assert_near(ours.add_to(x.clone()), want, 0.02)


def test_numbers_that_are_none_stay_with_their_token(fast: CpuOperations, reference: TorchOperations) -> None:
    mixture, _ = mixtures(fast, reference, packed_experts(dense_experts(4, 32, 32)), 2)
    x = torch.randn(3, 32)
    x[1, 5] = math.nan
    got = mixture.add_to(x)
    assert torch.isfinite(got).all(dim=1).tolist() == [True, False, True]


# ---------------------------------------------------------------------------------------------- attention


def angles(positions: list[int], head_dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    frequency = 10_000.0 ** (-torch.arange(0, head_dim, 2) / head_dim)
    angle = torch.tensor(positions).unsqueeze(1) * frequency
    return angle.cos(), angle.sin()


class Sequences:
    """Sequences in one paged cache, whose other slots hold what is no number."""

    def __init__(self, shape: HeadShape, lengths: list[int], block_size: int) -> None:
        self.shape, self.block_size = shape, block_size
        counts = [-(-n // block_size) for n in lengths]
        order = torch.randperm(sum(counts)).tolist()
        self.blocks = [[order.pop() for _ in range(count)] for count in counts]
        width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
        self.qkv = [torch.randn(n, width) for n in lengths]
        self.slots = sum(counts) * block_size

    def cache(self) -> torch.Tensor:
        return torch.full((2, self.slots, self.shape.kv_heads, self.shape.head_dim), math.nan, dtype=BF16)

    def run(
        self,
        attention,
        cache: torch.Tensor,
        parts: list[tuple[int, int, int]],
        asked: list[int] | None = None,
    ):
        """`parts`: (sequence, first position, last position), computed in one batch."""
        spans, row = [], 0
        for n, first, last in parts:
            spans.append(Span(row, row + last - first, first, self.blocks[n]))
            row = spans[-1].last
        qkv = torch.cat([self.qkv[n][first:last] for n, first, last in parts])
        positions = [p for _, first, last in parts for p in range(first, last)]
        layout = PagedLayout(spans, self.block_size, CPU)
        rows = None if asked is None else torch.tensor(asked, dtype=torch.int64)
        return attention(qkv.to(cache.dtype) if cache.dtype == torch.float32 else qkv, angles(positions, self.shape.head_dim), layout, cache, rows)  # fmt: skip


SHAPES = [
    HeadShape(16, 2, 64),
    HeadShape(2, 2, 16),
    HeadShape(9, 3, 48),
    HeadShape(12, 1, 128),
    HeadShape(8, 1, 256),
]


@pytest.mark.parametrize("window", [None, 1, 5, 16, 100])
@pytest.mark.parametrize("block_size", [16, 32])
@pytest.mark.parametrize("shape", SHAPES)
def test_attention(
    fast: CpuOperations, reference: TorchOperations, shape: HeadShape, block_size: int, window: int | None
) -> None:
    """Prompts in one go, then three decodes beside a chunk of a prompt."""
    sequences = Sequences(shape, [1, 17, 64, 65, 150], block_size)
    sinks = torch.randn(shape.heads) * 2
    ours, theirs = fast.attention(shape, sinks, window), reference.attention(shape, sinks, window)
    cache, plain = sequences.cache(), sequences.cache().float()
    for parts in (
        [(0, 0, 1)],
        [(1, 0, 16)],
        [(2, 0, 63), (3, 0, 64), (4, 0, 70)],
        [(1, 16, 17), (2, 63, 64), (3, 64, 65), (4, 70, 150)],
    ):
        want = sequences.run(theirs, plain, parts)
        assert_near(sequences.run(ours, cache, parts), want, 0.02)


@pytest.mark.parametrize("window", [None, 20])
def test_chunks_and_company_change_no_bit_of_attention(fast: CpuOperations, window: int | None) -> None:
    shape = HeadShape(16, 2, 64)
    sequences = Sequences(shape, [150, 40], 16)
    attention = fast.attention(shape, torch.randn(16), window)
    whole = sequences.run(attention, sequences.cache(), [(0, 0, 150)])
    cache, cut = sequences.cache(), []
    sequences.run(attention, cache, [(1, 0, 39)])
    for first, last in ((0, 1), (1, 17), (17, 100), (100, 149)):
        cut.append(sequences.run(attention, cache, [(0, first, last)]))
    cut.append(sequences.run(attention, cache, [(1, 39, 40), (0, 149, 150)])[1:])
    assert torch.equal(torch.cat(cut), whole)


@pytest.mark.parametrize("window", [None, 128])
def test_neither_tiles_nor_threads_change_a_bit_of_attention(fast: CpuOperations, window: int | None) -> None:
    """Queries share tiles of up to 16, how many depends on the batch and the threads; beside them a long decode."""
    shape = HeadShape(16, 2, 64)
    sequences = Sequences(shape, [300, 400], 16)
    attention = fast.attention(shape, torch.randn(16), window)
    alone = sequences.cache()
    want = torch.cat([sequences.run(attention, alone, [(0, n, n + 1)]) for n in range(300)])
    sequences.run(attention, alone, [(1, 0, 399)])
    decode = sequences.run(attention, alone, [(1, 399, 400)])
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            cache = sequences.cache()
            sequences.run(attention, cache, [(1, 0, 399)])
            got = sequences.run(attention, cache, [(1, 399, 400), (0, 0, 300)])
            assert torch.equal(got, torch.cat((decode, want)))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("sink", [-200.0, 0.0, 400.0])
@pytest.mark.parametrize("growth", [-1.0, 0.0, 0.05, 1.0])
def test_scores_far_from_the_sink_and_from_each_other(
    fast: CpuOperations, reference: TorchOperations, sink: float, growth: float
) -> None:
    """Those of later keys grow, or fall, by `growth` a position."""
    shape = HeadShape(2, 1, 16)
    sequences = Sequences(shape, [200], 16)
    heads = sequences.qkv[0].view(200, 4, 16)
    heads[:, :3] = 0
    # The last pair of dimensions, which rotates by a thousandth a position at most.
    heads[:, :2, 7] = 4.0
    heads[:, 2, 7] = growth * torch.arange(200)
    sinks = torch.full((2,), sink)
    got = sequences.run(fast.attention(shape, sinks, None), sequences.cache(), [(0, 0, 200)])
    want = sequences.run(reference.attention(shape, sinks, None), sequences.cache().float(), [(0, 0, 200)])
    assert torch.isfinite(got).all()
    assert float((got - want).abs().max()) <= 0.02 * float(want.abs().max()) + 1e-30


def test_only_the_rows_asked_for(fast: CpuOperations, reference: TorchOperations) -> None:
    shape = HeadShape(16, 2, 64)
    sequences = Sequences(shape, [50, 30], 16)
    parts = [(0, 0, 50), (1, 0, 30)]
    for operations, cache in ((fast, sequences.cache()), (reference, sequences.cache().float())):
        attention = operations.attention(shape, torch.zeros(16), None)
        everything = sequences.run(attention, cache, parts)
        assert torch.equal(sequences.run(attention, cache, parts, [49, 79]), everything[[49, 79]])
        assert len(sequences.run(attention, cache, parts, [])) == 0


@pytest.mark.parametrize(
    ("shape", "block_size"),
    [(HeadShape(16, 2, 64), 8), (HeadShape(4, 2, 24), 16), (HeadShape(26, 2, 16), 16)],
)
def test_what_the_kernel_was_not_written_for_goes_the_references_way(
    fast: CpuOperations, reference: TorchOperations, shape: HeadShape, block_size: int
) -> None:
    sequences = Sequences(shape, [30], block_size)
    sinks = torch.randn(shape.heads)
    got = sequences.run(fast.attention(shape, sinks, 9), sequences.cache(), [(0, 0, 30)])
    want = sequences.run(reference.attention(shape, sinks, 9), sequences.cache().float(), [(0, 0, 30)])
    assert_near(got, want, 0.03)


# ---------------------------------------------------------------------------------------------- vocabulary


def exact(weight: torch.Tensor, norm: Norm, x: torch.Tensor) -> torch.Tensor:
    wide = (
        x.double() * torch.rsqrt(x.double().square().mean(-1, keepdim=True) + norm.eps) * norm.weight.double()
    )
    return wide.to(BF16).double() @ weight.double().T


@pytest.mark.parametrize(("words", "hidden"), [(1, 32), (33, 64), (1000, 96), (5003, 512)])
@pytest.mark.parametrize("rows", [1, 3, 14, 40])
def test_vocabulary(fast: CpuOperations, words: int, hidden: int, rows: int) -> None:
    weight, norm = bf16(words, hidden), Norm(bf16(hidden), 1e-5)
    vocabulary = fast.vocabulary(weight, norm)
    x = torch.randn(rows, hidden)
    want = exact(weight, norm, x)
    assert_near(vocabulary.logits(x).double(), want, 1e-3)
    assert vocabulary.likeliest(x).tolist() == want.argmax(dim=-1).tolist()


def test_tokens_that_the_screen_cannot_tell_apart(fast: CpuOperations) -> None:
    """Rows that differ in the last bits of bfloat16 only, and equal ones, of which the first counts."""
    weight = bf16(1, 64).repeat(500, 1)
    weight[7:] *= 1 - 2**-7
    norm = Norm(torch.ones(64, dtype=BF16), 1e-5)
    x = weight[0].float().unsqueeze(0)
    assert fast.vocabulary(weight, norm).likeliest(x).tolist() == [0]
    weight[300] *= 1.03
    assert fast.vocabulary(weight, norm).likeliest(torch.cat((x, -x))).tolist() == [
        300,
        exact(weight, norm, -x).argmax(),
    ]


def test_inputs_with_a_few_huge_values(fast: CpuOperations) -> None:
    """They make 8 bits coarse, so that many tokens pass the screen; the answer stays exact."""
    weight, norm = bf16(3000, 256), Norm(torch.ones(256, dtype=BF16), 1e-5)
    x = torch.randn(6, 256)
    x[:, 3] = 500
    assert (
        fast.vocabulary(weight, norm).likeliest(x).tolist() == exact(weight, norm, x).argmax(dim=-1).tolist()
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_row_without_numbers_has_no_token(fast: CpuOperations, value: float) -> None:
    vocabulary = fast.vocabulary(bf16(100, 32), Norm(torch.ones(32, dtype=BF16), 1e-5))
    x = torch.randn(3, 32)
    x[1, 0] = value
    tokens = vocabulary.likeliest(x)
    assert (tokens < 0).tolist() == [False, True, False]
    assert torch.isfinite(vocabulary.logits(x)).all(dim=1).tolist() == [True, False, True]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(fast: CpuOperations, threads: int) -> None:
    before = torch.get_num_threads()
    weight, bias, x = bf16(200, 64), bf16(200), torch.randn(20, 64)
    want = fast.linear(weight, bias)(x)
    try:
        torch.set_num_threads(threads)
        for _ in range(50):
            assert torch.equal(fast.linear(weight, bias)(x), want)
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------------------------------------- building


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "gpt-oss-triton" / "kernels"


def test_no_compiler_is_a_reason_not_a_failure(
    fast: CpuOperations, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with pytest.raises(build.Unavailable, match="no C\\+\\+ compiler"):
        build.find()


def test_a_compiler_that_fails_leaves_nothing_behind(
    fast: CpuOperations, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/bin/false")
    with pytest.raises(build.Unavailable, match="failed"):
        build.find()
    assert [path.name for path in cache.iterdir()] == ["lock"]


def test_a_place_that_cannot_be_written_is_a_reason(
    fast: CpuOperations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(build.Unavailable, match="cannot be built"):
        build.find()


def test_it_is_compiled_once(fast: CpuOperations, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def touch(compiler: str, path: Path) -> None:
        compiled.append(compiler)
        path.touch()

    monkeypatch.setattr(build, "_compile", touch)
    assert build.find() == build.find()
    assert len(compiled) == 1
    monkeypatch.setattr(build, "OPTIONS", (*build.OPTIONS, "-DOTHER"))
    build.find()
    assert len(compiled) == 2, "other options make another library"


def test_a_processor_without_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "NEEDED", (*build.NEEDED, "avx1024"))
    with pytest.raises(build.Unavailable, match=r"lacks .*avx1024|written for"):
        build.find()
