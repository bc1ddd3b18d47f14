"""Who may import what. Read from the sources, so that an import inside a function counts as well."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    [
        *(ROOT / "frontend").rglob("*.py"),
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "model_repository").rglob("*.py"),
    ]
)

TORCH = ("torch", "torchvision", "transformers", "accelerate", "safetensors")
WEB = ("fastapi", "starlette", "uvicorn")
PB_UTILS = ("triton_python_backend_utils", "c_python_backend_utils")
# part of the tree -> what none of its modules may import
FORBIDDEN = {
    "frontend": (*TORCH, *PB_UTILS, "triton", "gpt_oss_triton.engine", "gpt_oss_triton.kernels", "gpt_oss_triton.triton_backend"),
    "gpt_oss_triton.harmony": (*TORCH, *WEB, *PB_UTILS),
    "gpt_oss_triton.wire": (*TORCH, *WEB, *PB_UTILS),
    "gpt_oss_triton.errors": (*TORCH, *WEB, *PB_UTILS),
    "gpt_oss_triton.options": (*TORCH, *WEB, *PB_UTILS),
    "gpt_oss_triton.config": (*TORCH, *WEB, *PB_UTILS),
    "gpt_oss_triton.engine": (*WEB, *PB_UTILS, "tritonclient", "frontend", "openai_harmony", "gpt_oss_triton.triton_backend"),
    "gpt_oss_triton": ("frontend", *WEB),
    "gpt_oss_triton.launch": (*TORCH, *PB_UTILS, "gpt_oss_triton.engine"),
}  # fmt: skip
TAKEN_NAMES = (
    "gpt_oss",
    "triton",
    "engine",
    "schemas",
    "utils",
)  # each belongs to something that runs beside us


def module_name(path: Path) -> str:
    for base in (ROOT / "src", ROOT):
        if path.is_relative_to(base):
            parts = path.relative_to(base).with_suffix("").parts
            return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    raise AssertionError(path)


def imports(path: Path) -> set[str]:
    """Absolute names of all modules that `path` imports, and of what it takes from them."""
    found: set[str] = set()
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            found |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


IMPORTS = {module_name(path): imports(path) for path in SOURCES}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_forbidden_import(package: str) -> None:
    modules = [name for name in IMPORTS if within(name, package)]
    assert modules, f"{package} has no modules: is the rule out of date?"
    broken = [
        f"{module} imports {name}"
        for module in modules
        for name in sorted(IMPORTS[module])
        if any(within(name, forbidden) for forbidden in FORBIDDEN[package])
    ]
    assert broken == []


def importers(*packages: str) -> set[str]:
    return {module for module, names in IMPORTS.items() if any(within(n, p) for n in names for p in packages)}


def test_only_the_triton_backend_imports_tritons_python_module() -> None:
    found = importers(*PB_UTILS)
    assert {name for name in found if not within(name, "gpt_oss_triton.triton_backend")} == set()


def test_one_module_of_the_frontend_imports_the_triton_client() -> None:
    found = {name for name in importers("tritonclient", "grpc") if within(name, "frontend")}
    assert len(found) == 1, sorted(found)


def test_no_module_takes_a_name_that_is_taken() -> None:
    top_level = [
        *ROOT.glob("*.py"),
        *ROOT.glob("*/__init__.py"),
        *ROOT.glob("src/*/__init__.py"),
        *ROOT.glob("src/*.py"),
    ]
    names = {path.parent.name if path.name == "__init__.py" else path.stem for path in top_level}
    assert names.isdisjoint(TAKEN_NAMES)


def test_shared_code_does_not_live_in_the_model_repository() -> None:
    """Triton makes a helper module there a top-level import of every model."""
    beside = [p for p in (ROOT / "model_repository").rglob("*.py") if p.name != "model.py"]
    assert beside == []


def test_the_rules_see_every_form_of_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    module = tmp_path / "src" / "package" / "inner" / "module.py"
    module.parent.mkdir(parents=True)
    module.write_text("def f():\n    import a.b as c\n    from ..other import d\n    from . import e\n")
    assert imports(module) == {"a.b", "package.other", "package.other.d", "package.inner", "package.inner.e"}
