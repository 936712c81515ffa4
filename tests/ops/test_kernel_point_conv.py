"""Kernel point convolution: every implementation against the reference, and the reference against the formula."""

import math
import multiprocessing
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oneiros.ops.kernel_point_conv import Geometry, _operators, kernel_point_conv, kernel_point_geometry
from tests.ops.kernel_point_conv_cases import CASES, Case

ORDINARY = CASES[0]
# Triton compiles for a GPU; without one its interpreter runs the same code, in a process told so from the start.
TRITON_RUNS = torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"
COMPILED = ["numba", "triton"] if TRITON_RUNS else ["numba"]


def device_of(implementation: str) -> str:
    return "cuda" if implementation == "triton" and torch.cuda.is_available() else "cpu"


def run(case: Case, implementation: str, differentiated: tuple[int, ...], dtype=torch.float64, shares_geometry=False):
    """Output and gradients, on the CPU, by argument."""
    device = device_of(implementation)
    arguments = [x.to(device) if isinstance(x, torch.Tensor) else x for x in case.tensors(dtype)]
    for index in differentiated:
        if arguments[index] is not None:
            arguments[index].requires_grad_()
    options = {"influence": case.influence, "implementation": implementation}
    geometry = kernel_point_geometry(*arguments[:5], **options) if shares_geometry else None
    out = kernel_point_conv(*arguments, geometry=geometry, **options)
    factors = torch.linspace(-1, 1, max(out.numel(), 1), dtype=dtype, device=device)[: out.numel()].view(out.shape)
    (out * factors).sum().backward()
    found = {"out": out.detach().cpu()}
    for index in differentiated:
        if arguments[index] is not None:
            grad = arguments[index].grad
            found[index] = torch.zeros_like(arguments[index]).cpu() if grad is None else grad.cpu()
    return found


def by_the_formula(points, queries, neighbors, kernel_points, sigma, weights, modulations, features):
    """Loops over plain numbers, linear influence."""
    out = torch.zeros(len(queries), features.shape[1], dtype=features.dtype)
    for i in range(len(queries)):
        for j in neighbors[i].tolist():
            if j in (-1, len(points)):
                continue
            distances = [math.dist(points[j] - queries[i], kernel_point) for kernel_point in kernel_points]
            k = min(range(len(distances)), key=distances.__getitem__)
            h = max(0.0, 1 - distances[k] / sigma)
            for c in range(features.shape[1]):
                a = 1.0 if modulations is None else modulations[i, k, c * modulations.shape[2] // features.shape[1]]
                out[i, c] += h * a * weights[k, c] * features[j, c]
    return out


@pytest.mark.parametrize("case", [case for case in CASES if case.influence == "linear"], ids=lambda case: case.name)
def test_reference_follows_the_formula(case):
    arguments = case.tensors()
    expected = by_the_formula(*arguments)
    torch.testing.assert_close(kernel_point_conv(*arguments, implementation="reference"), expected)
    if case.name in ("ordinary", "negative sigma"):
        assert expected.abs().max() > 0.1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("implementation", COMPILED)
class TestTable:
    def test_values_and_gradients(self, implementation, case):
        differentiated = (5, 6, 7)
        expected = run(case, "reference", differentiated)
        torch.testing.assert_close(run(case, implementation, differentiated), expected, rtol=1e-10, atol=1e-12)

    def test_gradients_of_places(self, implementation, case):
        differentiated = (0, 1, 3, 5, 6, 7)
        expected = run(case, "reference", differentiated)
        found = run(case, implementation, differentiated, shares_geometry=True)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_float32_is_exact_to_its_digits(case):
    expected = {name: value.float() for name, value in run(case, "reference", (5, 6, 7)).items()}
    torch.testing.assert_close(run(case, "numba", (5, 6, 7), torch.float32), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("differentiated", [(5,), (6,), (7,), (3,)])
@pytest.mark.parametrize("implementation", COMPILED)
def test_one_gradient_alone(implementation, differentiated):
    expected = run(ORDINARY, "reference", differentiated)
    found = run(ORDINARY, implementation, differentiated)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_triton_passes_the_table_under_its_interpreter():
    pytest.importorskip("triton")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "triton-"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout
    assert f"{2 * len(CASES) + 4} passed" in result.stdout


def test_triton_kernels_compile_for_a_gpu():
    triton = pytest.importorskip("triton")
    from oneiros.ops.kernel_point_conv import cuda_kernels

    real = "*fp32"
    types = {"places": (real, real, real, "*i64", "*i16", real), "sizes": ("i32", "i32", "i32"), "M": "i32", "C": "i32"}
    constants = {"SIGMA": 0.8, "KIND": "linear", "KNOWN": False, "GATED": True, "G": 8, "D": 3}
    constants |= {"ROWS": 16, "KERNELS": 64, "GROUPS": 8, "MEMBERS": 8}
    constants |= dict.fromkeys(["NEEDS_WEIGHTS", "NEEDS_GATES", "NEEDS_FEATURES", "NEEDS_INFLUENCE"], True)
    for kernel in (cuda_kernels.geometry, cuda_kernels.forward, cuda_kernels.backward):
        names = kernel.arg_names
        signature = {name: "constexpr" if name in constants else types.get(name, real) for name in names}
        values = {(names.index(name),): value for name, value in constants.items() if name in names}
        source = triton.compiler.ASTSource(kernel, signature=signature, constexprs=values)
        target = triton.backends.compiler.GPUTarget("cuda", 80, 32)
        assert triton.compile(source, target=target, options={"enable_fp_fusion": True}).asm["cubin"]


@pytest.mark.parametrize("implementation", ["reference", "numba"])
def test_gradients_are_those_of_finite_differences(implementation):
    points, queries, neighbors, kernel_points, sigma, weights, modulations, features = Case(
        "small", (8, 6, 4, 5, 4, 2)
    ).tensors()

    def function(*tensors):
        places, factors = tensors[:3], tensors[3:]
        return kernel_point_conv(
            places[0], places[1], neighbors, places[2], sigma, *factors, implementation=implementation
        )

    inputs = [points, queries, kernel_points, weights, modulations, features]
    assert torch.autograd.gradcheck(function, [x.requires_grad_() for x in inputs])
    inputs = [x.detach().requires_grad_(index > 2) for index, x in enumerate(inputs)]
    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("known", [False, True])
def test_operators_are_sound(known):
    points, queries, neighbors, kernel_points, sigma, *factors = ORDINARY.tensors(torch.float32)
    operators = _operators("numba")
    places = points, queries, kernel_points, neighbors, sigma, "linear"
    torch.library.opcheck(operators.geometry, places)
    nearest, influence = operators.geometry(*places) if known else (None, None)
    if influence is not None:
        influence.requires_grad_()
    torch.library.opcheck(operators.conv, (*places, nearest, influence, *(x.requires_grad_() for x in factors)))


@pytest.mark.parametrize("implementation", ["reference", "numba"])
def test_gradient_at_distance_zero_is_zero(implementation):
    origin = torch.zeros(1, 3, dtype=torch.float64)
    places = [origin.clone().requires_grad_() for _ in range(3)]
    one = torch.ones(1, 1, dtype=torch.float64)
    neighbors = torch.zeros(1, 1, dtype=torch.int64)
    kernel_point_conv(*places[:2], neighbors, places[2], 1.0, one, None, one, implementation=implementation).backward()
    for place in places:
        assert torch.equal(place.grad, origin)


@pytest.mark.parametrize("implementation", ["reference", *COMPILED])
def test_of_equally_near_kernel_points_the_lower_row_counts(implementation):
    device = device_of(implementation)
    points = torch.tensor([[0.5, 0.0, 0.0]], device=device)
    kernel_points = torch.tensor([[9.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.5, 0.0, 0.0]], device=device)
    neighbors = torch.tensor([[0, -1, 1]], device=device)
    geometry = kernel_point_geometry(
        points, torch.zeros_like(points), neighbors, kernel_points, 2.0, implementation=implementation
    )
    assert geometry.nearest.tolist() == [[1, 0, 0]]
    assert geometry.nearest.dtype == torch.int16
    assert geometry.influence.tolist() == [[1.0, 0.0, 0.0]]


def test_numba_repeats_bit_by_bit_with_any_number_of_threads():
    case = Case("many blocks of queries", (1700, 1900, 9, 15, 32, 4))
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 2, 5):
            torch.set_num_threads(threads)
            found.append(run(case, "numba", (0, 1, 3, 5, 6, 7)) | {"fused": run(case, "numba", (5, 6, 7))["out"]})
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for name, tensor in found[0].items():
            assert torch.equal(other[name], tensor), name


def test_shared_geometry_changes_nothing():
    assert_same = torch.testing.assert_close
    assert_same(
        run(ORDINARY, "numba", (5, 6, 7), shares_geometry=True), run(ORDINARY, "numba", (5, 6, 7)), rtol=0, atol=0
    )


def _in_a_fork() -> None:
    torch.set_num_threads(2)
    kernel_point_conv(*Case("two blocks", (600, 1200, 3, 5, 8, 1)).tensors(), implementation="numba")


def test_numba_runs_in_a_forked_process():
    before = torch.get_num_threads()
    try:
        _in_a_fork()
    finally:
        torch.set_num_threads(before)
    child = multiprocessing.get_context("fork").Process(target=_in_a_fork)
    child.start()
    child.join(60)
    hangs = child.is_alive()
    child.kill()
    assert not hangs
    assert child.exitcode == 0


def test_numba_compiles_where_no_folder_can_be_written(monkeypatch):
    caching = pytest.importorskip("numba.core.caching")
    from oneiros.ops.compiled import compiled

    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    assert compiled(lambda x: x + 1)(2) == 3


@pytest.mark.parametrize("num_kernel_points", [15, 60])
def test_memory_grows_neither_with_neighbours_nor_with_kernel_points(num_kernel_points):
    def allocated(num_neighbors: int) -> int:
        tensors = Case("memory", (500, 500, num_neighbors, num_kernel_points, 32, 4)).tensors(torch.float32)
        for factor in tensors[5:]:
            factor.requires_grad_()
        with torch.profiler.profile(profile_memory=True) as profile:
            kernel_point_conv(*tensors, implementation="numba").sum().backward()
        events = [event.cpu_memory_usage for event in profile.events() if event.name == "[memory]"]
        return sum(size for size in events if size > 0)

    modulations, features, weights = 500 * num_kernel_points * 4, 500 * 32, num_kernel_points * 32
    assert allocated(32) == allocated(8)
    # Their gradients, the output and its gradient, and what the checks of coordinates take.
    assert allocated(8) < 4 * (modulations + 4 * features + 4 * weights)


def test_auto_takes_the_compiled_kernel_and_the_environment_forces_another(monkeypatch):
    arguments = ORDINARY.tensors(torch.float32)
    exact = {name: kernel_point_conv(*arguments, implementation=name) for name in ("reference", "numba")}
    assert not torch.equal(exact["reference"], exact["numba"])  # their last bits tell which one ran
    monkeypatch.delenv("ONEIROS_KERNELS", raising=False)
    assert torch.equal(kernel_point_conv(*arguments), exact["numba"])
    monkeypatch.setenv("ONEIROS_KERNELS", "reference")
    assert torch.equal(kernel_point_conv(*arguments), exact["reference"])
    monkeypatch.setenv("ONEIROS_KERNELS", "fastest")
    with pytest.raises(ValueError, match="'fastest'; choose auto, reference, numba or triton"):
        kernel_point_conv(*arguments)


def test_importing_the_operation_compiles_nothing():
    script = "import sys, oneiros.ops.kernel_point_conv; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numba", "triton"}.intersection(loaded)


@pytest.mark.parametrize("implementation", ["reference", "numba"])
def test_half_precision_is_computed_in_float32(implementation):
    arguments = ORDINARY.tensors(torch.float32)
    halves = [x.bfloat16() if index > 4 else x for index, x in enumerate(arguments)]
    rounded = [x.float() if isinstance(x, torch.Tensor) and x.dtype == torch.bfloat16 else x for x in halves]
    exact = kernel_point_conv(*rounded, implementation=implementation)
    assert torch.equal(kernel_point_conv(*halves, implementation=implementation), exact.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(kernel_point_conv(*halves, implementation=implementation), exact)
        halves[7].requires_grad_()
        kernel_point_conv(*halves, implementation=implementation).sum().backward()
    assert halves[7].grad.dtype == torch.bfloat16


@pytest.mark.parametrize("index", [0, 1, 3, 5, 6, 7])
def test_one_wide_operand_makes_the_sum_wide(index):
    single, double = ORDINARY.tensors(torch.float32), ORDINARY.tensors()
    mixed = [*single[:index], double[index], *single[index + 1 :]]
    exact = [x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in mixed]
    expected = kernel_point_conv(*exact, implementation="numba")
    assert torch.equal(kernel_point_conv(*mixed, implementation="numba"), expected.to(mixed[7].dtype))


@pytest.mark.parametrize("implementation", ["reference", "numba"])
def test_int32_neighbours_and_strided_tensors_are_fine(implementation):
    arguments = ORDINARY.tensors()
    expected = kernel_point_conv(*arguments, implementation=implementation)
    strided = [
        x.to(torch.int32) if index == 2 else x.t().contiguous().t() if index in (0, 1, 3, 5, 7) else x
        for index, x in enumerate(arguments)
    ]
    strided[6] = arguments[6].transpose(0, 2).contiguous().transpose(0, 2)
    torch.testing.assert_close(kernel_point_conv(*strided, implementation=implementation), expected)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(-100, 100))
def test_neither_numbering_nor_origin_matters(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    points, queries, neighbors, *rest, features = ORDINARY.tensors()
    expected = kernel_point_conv(points, queries, neighbors, *rest, features)
    order = torch.randperm(len(points), generator=generator)
    rank = torch.cat([order.argsort(), torch.tensor([len(points)])])
    columns = torch.randperm(neighbors.shape[1], generator=generator)
    renumbered = torch.where(neighbors < 0, -1, rank[neighbors])[:, columns]
    found = kernel_point_conv(points[order] + shift, queries + shift, renumbered, *rest, features[order])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def changed(index: int, value) -> list:
    arguments = ORDINARY.tensors(torch.float32)
    arguments[index] = value(arguments[index]) if callable(value) else value
    return arguments


def with_value(place, value):
    def change(tensor):
        tensor = tensor.clone()
        tensor[place] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("index", "value", "words"),
    [
        (0, lambda x: x[:, :2], r"points is float32 \(40, 2\).*D, 3"),
        (0, with_value((4, 1), math.nan), r"points row 4 is .*nan.*finite"),
        (1, with_value((2, 0), math.inf), r"queries row 2 is .*inf.*finite"),
        (1, lambda x: x[:5], r"modulations is .*\(33, 15, 2\).*\(5, 15, C // G\)"),
        (2, with_value((3, 1), -2), r"neighbors holds -2; expected 0 to 39, or -1 or 40"),
        (2, with_value((3, 1), 41), r"neighbors holds 41; expected 0 to 39, or -1 or 40"),
        (2, lambda x: x[:-1], r"neighbors is int64 \(32, 7\); expected int64 \(33, H\)"),
        (2, lambda x: x.float(), r"neighbors is float32"),
        (3, lambda x: x[:0], r"weights is .*expected \(K, C\) = \(0, 16\)"),
        (3, with_value((1, 2), math.nan), r"kernel_points row 1 is .*nan"),
        (4, 0.0, r"sigma is 0.0; expected a finite number other than 0"),
        (4, math.nan, r"sigma is nan"),
        (5, lambda x: x[:, :4], r"weights is float32 \(15, 4\); expected \(K, C\) = \(15, 16\)"),
        (6, lambda x: x.repeat(1, 1, 3)[:, :, :5], r"modulations has 5 values.*does not divide the 16 channels"),
        (6, lambda x: x[:, :3], r"modulations is float32 \(33, 3, 2\)"),
        (7, lambda x: x[:-1], r"features is float32 \(39, 16\); expected \(40, C\)"),
    ],
)
def test_bad_input_is_refused_in_words(index, value, words):
    with pytest.raises(ValueError, match=words):
        kernel_point_conv(*changed(index, value))


def test_kernel_points_are_needed():
    arguments = changed(3, lambda x: x[:0])
    arguments[5], arguments[6] = arguments[5][:0], None
    with pytest.raises(ValueError, match="there are 0 kernel points; expected 1 to 32767"):
        kernel_point_conv(*arguments)


def test_influence_implementation_and_geometry_are_checked():
    arguments = ORDINARY.tensors()
    with pytest.raises(ValueError, match="influence is 'cubic'; choose linear, gaussian, constant"):
        kernel_point_conv(*arguments, influence="cubic")
    with pytest.raises(ValueError, match="implementation is 'cuda'; choose auto"):
        kernel_point_conv(*arguments, implementation="cuda")
    with pytest.raises(ValueError, match="triton runs on a GPU; the tensors are on the CPU"):
        kernel_point_conv(*arguments, implementation="triton")
    geometry = kernel_point_geometry(*arguments[:5])
    short = Geometry(geometry.nearest[:, 1:], geometry.influence[:, 1:])
    with pytest.raises(ValueError, match=r"geometry is of neighbors \(33, 6\), not \(33, 7\)"):
        kernel_point_conv(*arguments, geometry=short)
    few = [*arguments[:3], arguments[3][:1], arguments[4], arguments[5][:1], None, arguments[7]]
    with pytest.raises(ValueError, match="geometry knows kernel point 14; there are 1"):
        kernel_point_conv(*few, geometry=geometry)
