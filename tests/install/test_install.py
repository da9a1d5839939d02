"""What is installed is enough for others: their CMake projects find it, compile, link and run."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import BUILD, ROOT, run

HERE = Path(__file__).resolve().parent
TOOLS = ROOT / ".venv" / "bin"
ENVIRONMENT = os.environ | {"PATH": f"{TOOLS}:{os.environ['PATH']}", "OMPI_MCA_odls_base_sigkill_timeout": "1"}


def install(build, prefix):
    run(["cmake", "--install", build, "--prefix", prefix], env=ENVIRONMENT)
    return prefix


def build_against(prefix, source, build):
    """Configures and builds a project that knows of us by CMAKE_PREFIX_PATH alone."""
    configure = ["cmake", "-S", source, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"]
    run([*configure, f"-DCMAKE_PREFIX_PATH={prefix}", "-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"], env=ENVIRONMENT)
    run(["cmake", "--build", build], timeout=500, env=ENVIRONMENT)


def mpirun(ranks, program, **keywords):
    command = 'source cmake/env.sh && exec mpirun -n "$0" "$@"'
    return run(["bash", "-c", command, ranks, program], env=ENVIRONMENT, **keywords)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    return install(BUILD, tmp_path_factory.mktemp("prefix"))


def test_nothing_but_the_product_is_installed(prefix):
    folders = {str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_dir()}
    assert {"bin", "include/deepseek_train/core"} <= folders
    assert {path.name for path in (prefix / "bin").iterdir()} == {"deepseek-train"}
    # Headers of ours and nobody else's, and none that is private.
    installed = {str(path.relative_to(prefix / "include")) for path in (prefix / "include").rglob("*") if path.is_file()}
    public = {str(path.relative_to(ROOT / "include")) for path in (ROOT / "include").rglob("*.h")}
    assert installed == public


def test_no_installed_cmake_file_names_the_source_or_build_folder(prefix):
    """A moved or removed source tree must not matter; libtorch's own folder may lie in its .venv."""
    files = list(prefix.rglob("*.cmake"))
    assert files
    for path in files:
        text = path.read_text().replace(str(ROOT / ".venv"), "")
        assert str(ROOT) not in text, path
        assert str(BUILD) not in text, path


def test_the_installed_program_runs(prefix, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(prefix, moved)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", run([moved / "bin" / "deepseek-train", "--version"], env=ENVIRONMENT).stdout)


@pytest.fixture(scope="module")
def programs(prefix, tmp_path_factory):
    """A user's project: examples/custom_trainer and, compiled at the same time, two more programs."""
    folder = tmp_path_factory.mktemp("project")
    source = folder / "source"  # a copy: the example may lean on nothing beside it
    shutil.copytree(ROOT / "examples" / "custom_trainer", source)
    (code,) = re.findall(r"^```cpp\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (source / "readme.cc").write_text(code)
    for file in ("main.cc", "head_temperature.h"):
        shutil.copy(ROOT / "examples" / "custom_attention" / file, source / file.replace("main", "custom_attention"))
    with open(source / "CMakeLists.txt", "a") as file:
        for program in ("readme", "custom_attention"):
            file.write(f"add_executable({program} {program}.cc)\n")
            file.write(f"target_link_libraries({program} PRIVATE deepseek_train::deepseek_train)\n")
    build_against(prefix, source, folder / "build")
    return folder / "build"


def test_custom_trainer_learns_on_two_ranks(programs):
    found = re.search(r"2 ranks, accuracy (\d\.\d+)", mpirun(2, programs / "custom_trainer").stdout)
    assert found and float(found[1]) > 0.9


def test_custom_attention_names_the_recipe_it_cannot_find(programs):
    result = run([programs / "custom_attention", "no_such.yaml"], check=False, env=ENVIRONMENT)
    assert result.returncode == 1 and "no_such.yaml" in result.stderr


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_readmes_program_runs(programs, ranks):
    mpirun(ranks, programs / "readme")


def test_a_version_that_is_not_there_is_refused(prefix, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.25)\nproject(p LANGUAGES C CXX)\nfind_package(deepseek_train 99 REQUIRED)\n"
    )
    command = ["cmake", "-S", tmp_path, "-B", tmp_path / "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}"]
    result = run(command, check=False, env=ENVIRONMENT)
    assert result.returncode != 0 and "deepseek_train" in result.stderr and "99" in result.stderr


def test_engines_alone(tmp_path):
    build = tmp_path / "engines"
    run(
        ["cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release"]
        + ["-DDST_WITH_TORCH=OFF", "-DDST_BUILD_TESTS=OFF", "-DDST_BUILD_BENCH=OFF"],
        env=ENVIRONMENT,
    )
    run(["cmake", "--build", build], timeout=500, env=ENVIRONMENT)  # ccache has these files from the main build
    prefix = install(build, tmp_path / "prefix")
    build_against(prefix, HERE / "engines_consumer", tmp_path / "build")
    program = tmp_path / "build" / "engines_consumer"
    assert mpirun(2, program).stdout.strip().endswith(", 2 ranks, sum 3, 4 refused")
    assert "torch" not in run(["ldd", program]).stdout
