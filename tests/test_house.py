"""The rules of the house, held by machine: each guard on this tree, and each on a planted fault."""

import ast
import fnmatch
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Folder at the top -> the package it is.
HOMES = {"logicpim": "logicpim", "rtl": "logicpim.rtl", "sim": "logicpim.sim",
         "synth": "logicpim.synth"}

# Imports go down, or stay in their room. The longest matching name is a module's room.
FLOORS = {"spec": 0, "rtl": 1, "sim.model": 1, "llm": 1, "sim": 2, "placement": 2,
          "driver": 3, "system": 3, "synth": 3, "cli": 4, "torch": 4, "__main__": 5}
# The rooms inside rtl, by the same rule; plain modules beside them are common to all.
STOREYS = {"rtl": 0, "rtl.dram": 1, "rtl.bank": 1, "rtl.tsv": 1, "rtl.pim": 1, "rtl.control": 2,
           "rtl.channel": 3, "rtl.link": 3, "rtl.stack": 4, "rtl.prototype": 4, "rtl.host": 5}
# Shares equal modules for every room, and emits the top: below all and above all.
COMMON = "rtl.generate"

TEXT = {".py", ".md", ".toml", ".lock", ".in", ".cpp", ".h", ".vlt", ".sh", ".yml", ".ys", ""}
WORDS = {
    "a machine's path": r"(?<![\w.}~)*-])/(?:work|tmp|home|root|Users)/",
    "the number of an issue": r"\b[Ii]ssues?[ /]#?\d+|(?<![\w&/])#\d{1,4}\b",
    "a place of packages": r"python[h]osted|index[-]url|pypi\.org/simple",
    "a document outside this repository": r"\.\./shared|shared/(?:facts|pdk)|\bDESIGN\.md",
    "a place still to be filled": r"(?<![\w@])@[A-Z]{2,}@",
}


def files(root):
    """All files of the tree, without what is built or hidden (but with what CI runs)."""
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f == ".ci" or not f.startswith(".") and f not in
                      ("build", "dist", "__pycache__", "sim_build") and ".egg-info" not in f]
        yield from sorted(Path(folder) / name for name in names if name != ".git")


def sources(root):
    """(path as text, module name below `logicpim` or None, syntax tree) of each Python file."""
    for path in files(root):
        if path.suffix == ".py":
            at = path.relative_to(root)
            name = ".".join([HOMES.get(at.parts[0], ""), *at.with_suffix("").parts[1:]])
            name = name.removesuffix(".__init__") if at.parts[0] in HOMES else None
            yield str(at), name, ast.parse(path.read_text(), str(at))


def imports(at, name, tree):
    """(line, absolute dotted name) of everything imported, wherever in the file."""
    package = (name or "").split(".")
    package = package if at.endswith("__init__.py") else package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[:len(package) - node.level + 1] if node.level else []
            base = base + [node.module] if node.module else base
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def guard_packages(root):
    """What pyproject.toml does not list is silently absent from the wheel."""
    setup = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed, there = set(setup["packages"]), set()
    for path in files(root):
        top, *rest = path.relative_to(root).parts
        if top not in HOMES or not rest:
            continue
        package = ".".join([HOMES[top], *rest[:-1]])
        globs = setup.get("package-data", {}).get(package, [])
        if not (path.parent / "__init__.py").exists():
            yield f"{path.relative_to(root)}: no __init__.py beside it"
        elif path.suffix == ".py":
            there.add(package)
        elif not any(fnmatch.fnmatch(path.name, glob) for glob in globs):
            yield f"{path.relative_to(root)}: not in package-data"
    yield from (f"{name}: not in the packages list" for name in sorted(there - listed))
    yield from (f"{name}: listed but not there" for name in sorted(listed - there))


def guard_paths(root):
    """One package: no import that works only from the root, and no edits of the path."""
    for at, name, tree in sources(root):
        for line, target in imports(at, name, tree):
            if target.split(".")[0] in HOMES.keys() - {"logicpim"}:
                yield f"{at}:{line}: import {target} as logicpim.{target}"
            if target == "sys.path":
                yield f"{at}:{line}: takes hold of sys.path"
        for node in ast.walk(tree):
            changed = getattr(node, "targets", [getattr(node, "target", None)])
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) \
                    and node.func.attr in ("insert", "append", "extend", "addsitedir"):
                changed = [node.func]
            if any(re.match(r"sys\.path\b(?!_)|site\.addsitedir", ast.unparse(c))
                   for c in changed if c):
                yield f"{at}:{node.lineno}: edits sys.path"


def room(name, table):
    """The longest entry of the table that the dotted name lies in."""
    parts = name.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in names if name in table), None)


def guard_floors(root):
    """Imports go down or stay in their room; siblings are strangers."""
    for at, name, tree in sources(root):
        if not name or not name.startswith("logicpim"):
            continue
        here = name.removeprefix("logicpim").removeprefix(".")
        if here and not room(here, FLOORS):
            yield f"{at}: has no floor, give it one in {Path(__file__).name}"
            continue
        for line, target in imports(at, name, tree):
            there = target.removeprefix("logicpim.")
            if there == target or not room(there, FLOORS):
                continue
            for table in (FLOORS, STOREYS):
                a, b = room(here, table), room(there, table)
                if table is STOREYS and COMMON in (room(here, {COMMON}), room(there, {COMMON})):
                    continue
                if not here or (a and b and a != b and table[b] >= table[a]):
                    yield f"{at}:{line}: {a or 'logicpim'} must not import {b}"
                    break


def guard_size(root):
    """Files that a reader can hold in the head."""
    lengths = []
    for at, _, tree in sources(root):
        length = len((root / at).read_text().splitlines())
        if at.split("/")[0] in HOMES and not at.endswith("__init__.py"):
            lengths.append(length)
        if length > 400:
            yield f"{at}: {length} lines, at most 400"
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == "elaborate":
                length = node.end_lineno - node.lineno + 1
                if length > 80:
                    yield f"{at}:{node.lineno}: elaborate of {length} lines, at most 80"
    if lengths and statistics.median(lengths) > 200:
        yield f"half the files have more than {statistics.median(lengths)} lines, aim at 150"


def guard_words(root):
    """Nothing that means something on one machine or to one team only."""
    for path in files(root):
        if path.suffix in TEXT and path.stat().st_size < 1 << 20:
            for number, line in enumerate(path.read_text(errors="replace").split("\n"), 1):
                for what, pattern in WORDS.items():
                    if found := re.search(pattern, line):
                        yield f"{path.relative_to(root)}:{number}: {what}: {found[0]}"


def guard_docstrings(root):
    """Every module opens by saying what it is."""
    return (f"{at}: no docstring" for at, _, tree in sources(root) if not ast.get_docstring(tree))


GUARDS = [guard_packages, guard_paths, guard_floors, guard_size, guard_words, guard_docstrings]


@pytest.mark.parametrize("guard", GUARDS)
def test_house(guard):
    faults = list(guard(ROOT))
    assert not faults, "\n" + "\n".join(faults)


PLAIN = '"""A module."""\n'
LONG = PLAIN + "class C:\n    def elaborate(self, platform):\n" + "        pass\n" * 80


@pytest.mark.parametrize("guard, at, text", [
    (guard_packages, "rtl/dsp/__init__.py", PLAIN),
    (guard_packages, "sim/dram/rows/__init__.py", PLAIN),
    (guard_packages, "sim/loose/a.py", PLAIN),
    (guard_packages, "rtl/harness.cpp", ""),
    (guard_paths, "tests/test_a.py", "import rtl"),
    (guard_paths, "scripts/a.py", "from sim.model import fp"),
    (guard_paths, "cocotb_tests/a.py", "def f():\n    import synth.flow as flow"),
    (guard_paths, "a.py", "import sys\nsys.path.insert(0, '.')"),
    (guard_paths, "a.py", "import sys\nsys.path[:0] = ['.']"),
    (guard_paths, "a.py", "import sys\nsys.path += ['.']"),
    (guard_paths, "a.py", "from sys import path"),
    (guard_paths, "a.py", "import site\nsite.addsitedir('.')"),
    (guard_floors, "logicpim/__init__.py", "from logicpim.spec import config"),
    (guard_floors, "logicpim/spec/a.py", "from logicpim.rtl import stream"),
    (guard_floors, "logicpim/spec/a.py", "from ..rtl import stream"),
    (guard_floors, "rtl/pim/a.py", "from logicpim.sim import model"),
    (guard_floors, "rtl/a.py", "def f():\n    import logicpim.sim.dram.model"),
    (guard_floors, "sim/model/a.py", "from logicpim.rtl.pim import tile"),
    (guard_floors, "sim/model/a.py", "from logicpim.sim import dram"),
    (guard_floors, "logicpim/llm/a.py", "from logicpim.sim.model import fp"),
    (guard_floors, "sim/dram/a.py", "from logicpim.placement import policy"),
    (guard_floors, "logicpim/driver/a.py", "from logicpim import synth"),
    (guard_floors, "synth/a.py", "from logicpim.cli import main"),
    (guard_floors, "logicpim/attic/a.py", PLAIN),
    (guard_floors, "rtl/bank/a.py", "from logicpim.rtl.tsv import gearbox"),
    (guard_floors, "rtl/tsv/a.py", "from ..pim.tile import Tile"),
    (guard_floors, "rtl/pim/a.py", "from logicpim.rtl import control"),
    (guard_floors, "rtl/stream.py", "from logicpim.rtl.bank import controller"),
    (guard_floors, "rtl/control/a.py", "import logicpim.rtl.channel"),
    (guard_size, "scripts/a.py", PLAIN + "\n" * 400),
    (guard_size, "rtl/a.py", PLAIN + "\n" * 250),
    (guard_size, "rtl/a.py", LONG),
    (guard_words, "docs/a.md", f"see /{'work'}/main"),
    (guard_words, "Makefile", f"OUT = /{'tmp'}/out"),
    (guard_words, "rtl/a.py", f"# as in {'issue'} 3"),
    (guard_words, "README.md", f"fixes {'#'}12"),
    (guard_words, "requirements.lock", f"--{'index'}-url x"),
    (guard_words, "docs/a.md", f"from {'DESIGN'}.md, section 4"),
    (guard_docstrings, "tests/test_a.py", "import os"),
])
def test_guard_sees(tmp_path, guard, at, text):
    plant(tmp_path, at, text)
    faults = list(guard(tmp_path))
    assert len(faults) == 1, faults


@pytest.mark.parametrize("at, text", [
    ("tests/test_a.py", "import sys\nfrom logicpim.rtl import pim\npath = list(sys.path)"),
    ("sim/bench/a.py", "from logicpim.sim.dram import b\nfrom logicpim.rtl.channel import C"),
    ("sim/model/a.py", "from .b import c\nfrom logicpim.spec import config\nimport simpy"),
    ("rtl/pim/a.py", "from ..stream import Queue\nfrom logicpim.rtl.generate import share"),
    ("rtl/control/a.py", "from logicpim.rtl.bank.signatures import Command"),
    ("rtl/generate/a.py", "from logicpim.rtl.channel import Channel"),
    ("logicpim/cli/a.py", "from logicpim import __version__\nfrom logicpim.driver import run"),
    ("docs/a.md", "# 1. sim/work/ and https://example.org/home/ and &#12; and ./work/"),
])
def test_guard_passes(tmp_path, at, text):
    plant(tmp_path, at, text if at.endswith(".md") else PLAIN + text)
    assert [fault for guard in GUARDS for fault in guard(tmp_path)] == []


def plant(root, at, text):
    """A small sound house with one more file in it."""
    packages = ["logicpim", "logicpim.rtl", "logicpim.sim", "logicpim.synth"]
    packages += [f"logicpim.{name}" for name in ("spec", "llm", "driver", "cli")]
    packages += [f"logicpim.rtl.{name}" for name in ("bank", "tsv", "pim", "control", "generate")]
    packages += [f"logicpim.sim.{name}" for name in ("model", "dram", "bench")]
    for name in packages:
        where = name.replace("logicpim.", "", 1).replace(".", "/")
        where = where if where.split("/")[0] in HOMES else f"logicpim/{where}"
        (root / where).mkdir(parents=True, exist_ok=True)
        (root / where / "__init__.py").write_text(PLAIN)
    (root / "pyproject.toml").write_text(f"[tool.setuptools]\npackages = {packages}\n")
    (root / at).parent.mkdir(parents=True, exist_ok=True)
    (root / at).write_text(text)


def test_lint():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--output-format=concise", "."],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_distribution(tmp_path):
    """The wheel, made from the sdist, holds every module and imports from where it was put."""
    for path in files(ROOT):
        copy = tmp_path / "tree" / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)

    def python(*arguments, cwd=tmp_path, **environment):
        subprocess.run([sys.executable, *arguments], cwd=cwd, check=True,
                       env=os.environ | environment)

    build = f"import setuptools.build_meta as b; b.build_sdist(r'{tmp_path}')"
    python("-c", build, cwd=tmp_path / "tree")
    sdist, = tmp_path.glob("logicpim-*.tar.gz")
    with tarfile.open(sdist) as archive:
        kept = {name.split("/", 1)[-1] for name in archive.getnames()}
    assert {"Makefile", "requirements.lock", f"tests/{Path(__file__).name}"} <= kept

    pip = ("-m", "pip", "--disable-pip-version-check", "-q")
    python(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(sdist))
    wheel, = tmp_path.glob("logicpim-*.whl")
    want = {"/".join([*HOMES[top].split("."), *rest]) for top, *rest in
            (path.relative_to(ROOT).parts for path in files(ROOT)) if top in HOMES}
    with zipfile.ZipFile(wheel) as archive:
        assert want - set(archive.namelist()) == set()

    python(*pip, "install", "--no-deps", "--target", str(tmp_path / "put"), str(wheel))
    seen = "import logicpim.rtl as r, logicpim.sim.model as m; print(r.__file__, m.__file__); "
    python("-c", seen + f"assert all(x.__file__.startswith(r'{tmp_path}') for x in (r, m))",
           PYTHONPATH=str(tmp_path / "put"))
