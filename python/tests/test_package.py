"""The package as a whole: import order, stubs, pip."""

import ast
import inspect
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import deepseek_train
import pytest
from deepseek_train import _core

from tests.conftest import BUILD, ROOT, run

PACKAGE = Path(deepseek_train.__file__).parent
USE_BOTH = """
import torch, numpy, deepseek_train
maps = open("/proc/self/maps").read().split()
libraries = {path for path in maps if path.endswith(("/libtorch_cpu.so", "/libc10.so"))}
assert len(libraries) == 2, libraries
assert all(path.startswith(torch.__path__[0]) for path in libraries), libraries
x = torch.ones(64, 64, requires_grad=True)
(x @ x).sum().backward()
deepseek_train.Communicator().all_reduce(x.grad.numpy())
print(x.grad.sum().item(), deepseek_train.__version__)
"""


@pytest.mark.parametrize("first", ["torch", "deepseek_train"])
def test_torch_before_or_after(first):
    code = f"import {first}\n{USE_BOTH}"
    output = run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(PACKAGE.parent)}).stdout
    assert output.split() == [str(64.0 * 64 * 64 * 2), deepseek_train.__version__]


def test_every_error_is_ours_and_pythons():
    pythons = {
        "InvalidArgument": ValueError,
        "NotFound": FileNotFoundError,
        "Timeout": TimeoutError,
        "PermissionDenied": PermissionError,
        "PeerFailure": deepseek_train.Unavailable,
    }
    for name in ("InvalidArgument", "NotFound", "Timeout", "Unavailable", "PeerFailure", "DataCorruption"):
        error = getattr(deepseek_train, name)
        assert issubclass(error, deepseek_train.Error) and issubclass(error, pythons.get(name, RuntimeError))
    assert issubclass(deepseek_train.Error, RuntimeError)


def test_version_is_the_projects():
    assert f"project(deepseek_train VERSION {deepseek_train.__version__} " in (ROOT / "CMakeLists.txt").read_text()


def stub_classes():
    tree = ast.parse((PACKAGE / "_core.pyi").read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def test_stubs_name_what_the_module_has():
    found = {name for name, value in vars(_core).items() if inspect.isclass(value) and not name.startswith("_")}
    assert found == set(stub_classes())
    for name, node in stub_classes().items():
        described = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        ours = {member for member, value in vars(getattr(_core, name)).items() if callable(value) or hasattr(value, "fget")}
        ignored = {"__repr__", "__new__", "__init__", "_pybind11_conduit_v1_", "__static_attributes__"}
        assert described - ignored == ours - ignored, name


def test_stubs_name_the_arguments():
    for class_name, node in stub_classes().items():
        for item in node.body:
            if not isinstance(item, ast.FunctionDef) or item.decorator_list or item.name.startswith("__e"):
                continue
            doc = getattr(getattr(_core, class_name), item.name).__doc__ or ""
            for argument in item.args.args[1:] + item.args.kwonlyargs:
                assert f"{argument.arg}:" in doc, f"{class_name}.{item.name}: {argument.arg} is not in {doc}"


def test_everything_public_has_a_docstring():
    for name in deepseek_train.__all__:
        if name == "__version__":
            continue
        value = getattr(deepseek_train, name)
        assert value.__doc__, name
        for member, attribute in vars(value).items():
            if inspect.isclass(value) and not member.startswith("_") and inspect.isroutine(attribute):
                assert attribute.__doc__, f"{name}.{member}"


def cmake_of(cache):
    names = ("CMAKE_COMMAND:", "CMAKE_INSTALL_PREFIX:", "CMAKE_CXX_COMPILER:", "CMAKE_BUILD_TYPE:", "_Python_EXECUTABLE:")
    lines = [line for line in cache.splitlines() if line.startswith(names)]
    assert len(lines) == len(names), lines
    return lines


def test_pip_install_takes_the_module_that_was_built(tmp_path):
    if BUILD != ROOT / "build" / "release":
        pytest.fail(f"pyproject.toml packs build/release, the tests ran on {BUILD}")
    # An environment of the user's own, which the main build must forget: it may be removed tomorrow.
    environment_folder = tmp_path / "environment"
    venv.create(environment_folder, with_pip=False)
    (packages,) = environment_folder.glob("lib/python*/site-packages")
    (packages / "set-up.pth").write_text(sysconfig.get_path("purelib"))
    pip = [environment_folder / "bin" / "python", "-m", "pip"]
    command = [*pip, "install", "--no-build-isolation", "--no-deps", "--target", tmp_path / "target", "."]
    # A user's shell: the set-up's cmake and ninja are not in the path, and the main build must not change hands.
    environment = os.environ | {"PATH": "/usr/bin:/bin"}
    cache = (BUILD / "CMakeCache.txt").read_text()
    run([*command, "--quiet", "--disable-pip-version-check"], env=environment, timeout=500)
    assert cmake_of(cache) == cmake_of((BUILD / "CMakeCache.txt").read_text())
    installed = tmp_path / "target" / "deepseek_train"
    assert {"py.typed", "_core.pyi", "__init__.py"} <= {path.name for path in installed.iterdir()}
    code = "import deepseek_train as d; d.Communicator().barrier(); print(d.__file__, d.__version__)"
    output = run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(tmp_path / "target")}).stdout
    assert output.split() == [str(installed / "__init__.py"), deepseek_train.__version__]
    metadata = (tmp_path / "target" / f"deepseek_train-{deepseek_train.__version__}.dist-info" / "METADATA").read_text()
    assert "Requires-Dist: torch==2.11.0" in metadata and "License-Expression: Apache-2.0" in metadata
    # Only the package: no headers, no static libraries.
    assert not [path for path in (tmp_path / "target").rglob("*") if path.suffix in (".a", ".h")]
    assert subprocess.run(["readelf", "-d", next(installed.glob("_core*.so"))], capture_output=True, text=True).stdout.count(
        "/../torch/lib"
    ) == 1
