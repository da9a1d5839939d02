"""The checks of this folder fail when they should: each test plants one violation in a small tree."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from check_headers import compile_alone, shows_torch
from check_layers import ROOT, TABLE, violations
from check_no_torch import CheckError, torch_symbols
from layer_table import TableError, read_layer_table

HERE = Path(__file__).resolve().parent


@pytest.fixture
def tree(tmp_path):
    """A correct tree with the real tables; returns a function that writes one more file."""

    def write(path: str, text: str) -> Path:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        return tmp_path

    write(TABLE, (ROOT / TABLE).read_text())
    write("include/deepseek_train/core/error.h", "#pragma once\n#include <string>\n")
    write("include/deepseek_train/data/store.h", '#pragma once\n#include "deepseek_train/core/error.h"\n')
    write("include/deepseek_train/models/llama.h", "#pragma once\n#include <torch/torch.h>\n")
    write("include/deepseek_train/quantization/scheme.h", "#pragma once\n#include <vector>\n")
    write("src/data/handle.h", "#pragma once\n#include <hdf5.h>\n")
    write(
        "src/data/store.cc",
        '#include "deepseek_train/data/store.h"\n#include <unistd.h>\n#include "src/data/handle.h"\n',
    )
    write("quantization/kernels/rows.h", "#pragma once\n")
    write("quantization/torch/qat.cc", '#include <ATen/ATen.h>\n#include "quantization/kernels/rows.h"\n')
    write("tests/data/store_test.cc", '#include <gtest/gtest.h>\n#include <hdf5.h>\n#include "src/data/handle.h"\n')
    return write


def check(root: Path) -> list[str]:
    return violations(root, read_layer_table(root / TABLE))


def test_correct_tree_passes(tree):
    assert check(tree("src/core/error.cc", '#include "deepseek_train/core/error.h"\n#include <fmt/core.h>\n')) == []


BAD_INCLUDES = [
    # An arrow that the table does not have, upwards and sideways.
    ("src/core/error.cc", '"deepseek_train/data/store.h"', "core may not include data"),
    ("quantization/scheme.cc", '"deepseek_train/data/store.h"', "quantization may not include data"),
    ("include/deepseek_train/training/trainer.h", '"deepseek_train/models/llama.h"', "training may not include models"),
    ("quantization/scheme.cc", '"quantization/torch/own.h"', "quantization may not include quantization/torch"),
    ("src/core/error.cc", "<deepseek_train/data/store.h>", "core may not include data"),
    # Private headers of others.
    ("src/cli/main.cc", '"src/data/handle.h"', "data, and src/data/handle.h is private"),
    ("examples/loop/main.cc", '"src/data/handle.h"', "data, and src/data/handle.h is private"),
    ("include/deepseek_train/data/reader.h", '"src/data/handle.h"', "may not include the private src/data/handle.h"),
    # Libraries in the wrong place.
    ("src/text/regex.cc", "<hdf5.h>", "text may not include HDF5"),
    ("src/data/split.cc", "<pcre2.h>", "data may not include PCRE2"),
    ("src/data/loader.cc", "<torch/torch.h>", "data may not include libtorch"),
    ("collectives/ring.cc", "<c10/util/Half.h>", "collectives may not include libtorch"),
    ("src/training/ddp.cc", "<mpi.h>", "training may not include MPI"),
    ("src/data/hash.cc", "<openssl/evp.h>", "data may not include OpenSSL"),
    ("src/text/weird.cc", "<boost/regex.hpp>", "belongs to no library"),
    # Public headers show the standard library and our own alone.
    ("include/deepseek_train/data/h5.h", "<hdf5.h>", "public headers of data may not include HDF5"),
    (
        "include/deepseek_train/core/json.h",
        "<nlohmann/json.hpp>",
        "public headers of core may not include nlohmann-json",
    ),
    ("include/deepseek_train/core/fd.h", "<unistd.h>", "public headers of core may not include platform"),
    (
        "include/deepseek_train/quantization/q.h",
        "<torch/types.h>",
        "public headers of quantization may not include libtorch",
    ),
    # Names that hide where a header lives, and files without a home.
    ("src/data/near.cc", '"handle.h"', "is no file of this tree"),
    ("src/data/gone.cc", '"deepseek_train/data/gone.h"', "is no file of this tree"),
    ("src/unheard_of/a.cc", "<string>", "belongs to no component"),
]


@pytest.mark.parametrize(("path", "header", "message"), BAD_INCLUDES, ids=[f"{p}:{h}" for p, h, _ in BAD_INCLUDES])
def test_bad_include_is_found(tree, path, header, message):
    tree("quantization/torch/own.h", "#pragma once\n")
    found = check(tree(path, f"// A comment.\n#include <vector>\n  #  include {header}\n"))
    assert len(found) == 1
    assert message in found[0]
    assert found[0].startswith((f"{path}:3:", f"{path}:1: belongs"))


def test_program_names_place_and_fails(tree):
    root = tree("src/text/regex.cc", "#include <hdf5.h>\n")
    result = subprocess.run(
        [sys.executable, HERE / "check_layers.py", "--root", root], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert "src/text/regex.cc:1: text may not include HDF5" in result.stderr


def test_program_refuses_an_empty_tree(tmp_path):
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / TABLE, tmp_path / TABLE)
    result = subprocess.run(
        [sys.executable, HERE / "check_layers.py", "--root", tmp_path], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert "nothing was checked" in result.stderr


DATA_ROW = "| 2 | data | `include/deepseek_train/data` `src/data` | core, text |"
BAD_TABLES = [
    (DATA_ROW, DATA_ROW.replace("text", "txet"), "no such component: txet"),
    (DATA_ROW, DATA_ROW.replace("text", "models"), "data of layer 2 looks up to models"),
    (DATA_ROW, f"{DATA_ROW}\n{DATA_ROW}", "data has two rows"),
    (DATA_ROW, DATA_ROW + " more |", "wanted 4 cells, found 5"),
    (
        "| 2 | operations | `include/deepseek_train/operations` `src/operations` | core, security |",
        "| 1 | operations | `include/deepseek_train/operations` `src/operations` | core, audit |\n"
        "| 1 | audit | `src/audit` | core, operations |",
        "form a circle: audit, operations",
    ),
    ("| Layer | Component |", "| Floor | Component |", "no table with the heading"),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD_TABLES, ids=[m for _, _, m in BAD_TABLES])
def test_bad_table_is_refused(tmp_path, old, new, message):
    text = (ROOT / TABLE).read_text()
    assert old in text
    (tmp_path / "table.md").write_text(text.replace(old, new))
    with pytest.raises(TableError, match=message):
        read_layer_table(tmp_path / "table.md")


def test_header_that_leans_on_others_is_found(tree):
    root = tree("include/deepseek_train/core/leaning.h", "#pragma once\nstd::string name();\n")
    assert "does not compile alone" in compile_alone(root, "g++", "include/deepseek_train/core/leaning.h")
    assert compile_alone(root, "g++", "include/deepseek_train/core/error.h") is None


def test_header_without_guard_is_found(tree):
    root = tree("include/deepseek_train/core/twice.h", "struct Twice {};\n")
    assert "redefinition" in compile_alone(root, "g++", "include/deepseek_train/core/twice.h")


def test_torch_is_seen_through_headers_of_ours(tree):
    root = tree("include/deepseek_train/tuning/job.h", '#include "deepseek_train/models/llama.h"\n')
    assert shows_torch(root, "include/deepseek_train/tuning/job.h")
    assert not shows_torch(root, "include/deepseek_train/data/store.h")


def archive(folder: Path, source: str) -> Path:
    (folder / "part.cc").write_text(source)
    subprocess.run(["g++", "-c", "part.cc", "-o", "part.o"], cwd=folder, check=True, timeout=60)
    subprocess.run(["ar", "rcs", "libpart.a", "part.o"], cwd=folder, check=True, timeout=60)
    return folder / "libpart.a"


@pytest.mark.parametrize("name", ["at", "c10", "torch"])
def test_symbol_of_libtorch_is_found(tmp_path, name):
    library = archive(tmp_path, f"namespace {name} {{ void draw(); }}\nvoid ours() {{ {name}::draw(); }}\n")
    assert torch_symbols(library) == [f"{name}::draw()"]


def test_own_names_that_look_like_libtorch_pass(tmp_path):
    library = archive(
        tmp_path,
        "#include <vector>\nnamespace deepseek_train::torch { void draw(); }\nnamespace flat { void draw(); }\n"
        "int ours(std::vector<int>& v) { deepseek_train::torch::draw(); flat::draw(); return v.at(1); }\n",
    )
    assert torch_symbols(library) == []


def test_missing_or_cut_library_is_an_error(tmp_path):
    with pytest.raises(CheckError, match="build it first"):
        torch_symbols(tmp_path / "libnone.a")
    (tmp_path / "libcut.a").write_bytes(b"!<arch>\nnonsense")
    with pytest.raises(CheckError):
        torch_symbols(tmp_path / "libcut.a")
