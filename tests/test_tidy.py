"""The tree's own rules: who imports whom, what is loaded when, and what no module may contain."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES_MAX = 500
DOCSTRING_CHARS_MIN = 25

# Imports go down only: a package may import those on lower lines, itself, and what BESIDE names.
LAYERS = (
    ("__main__", "app", "cli", "demo"),
    ("box", "config"),
    ("agent", "health", "memory", "networks", "pos", "privacy", "registry"),
    ("hyperdrive",),
    ("hyperbee",),
    ("hypercore", "hyperswarm"),  # side by side: they meet through protocols
    ("records", "storage", "crypto"),
    ("encoding", "toml", "clock", "atomic"),
    ("limits", "errors"),
)
BESIDE = {("__main__", "cli"), ("cli", "app"), ("cli", "demo"), ("demo", "app"), ("demo", "cli")}
BESIDE |= {
    ("box", "config"),
    ("config", "box"),
    ("agent", "memory"),
    ("agent", "networks"),
    ("memory", "networks"),
    ("memory", "privacy"),
}
BESIDE |= {("networks", "privacy"), ("networks", "health"), ("registry", "pos"), ("records", "crypto")}
SKIPS = {"pytest.skip", "pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail"}
HOST_NAME_CALLS = {"getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo", "getfqdn"}


def modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Absolute names of everything that a module imports when it runs, with the line; not what only mypy sees."""
    nodes: list[ast.AST] = [tree(path)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{named(path)}:{node.lineno}: relative import"
            assert node.module is not None
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def layer(package: str) -> int:
    found = [number for number, names in enumerate(LAYERS) if package in names]
    assert found, f"edge.{package} has no place in LAYERS"
    return found[0]


def test_imports_go_down_only() -> None:
    wrong = []
    for path in modules("edge"):
        parts = path.relative_to(ROOT / "edge").with_suffix("").parts
        if parts == ("__init__",):
            continue
        for name, line in imports(path):
            target = name.split(".")[1] if name.startswith("edge.") else ""
            place = ROOT / "edge" / target
            if not target or target == parts[0] or not (place.is_dir() or place.with_suffix(".py").is_file()):
                continue  # outside, itself, or a name of the package's own __init__
            if layer(target) <= layer(parts[0]) and (parts[0], target) not in BESIDE:
                wrong.append(f"{named(path)}:{line} imports {name}")
    assert wrong == []


def test_the_box_never_imports_the_trainer_or_its_tools() -> None:
    forbidden = {"trainer", "torch", "gymnasium", "onnx", "onnxscript", "psutil"}
    wrong = [
        f"{named(path)}:{line} imports {name}"
        for path in modules("edge")
        for name, line in imports(path)
        if name.split(".")[0] in forbidden
    ]
    assert wrong == []


def test_the_simulator_needs_numpy_alone() -> None:
    wrong = [
        f"{named(path)}:{line} imports {name}"
        for path in modules("trainer/sim")
        for name, line in imports(path)
        if name.split(".")[0] in {"torch", "onnx", "onnxruntime", "gymnasium"}
    ]
    assert wrong == []


def test_every_module_says_what_it_is() -> None:
    said = {path: ast.get_docstring(tree(path)) or "" for path in modules("edge", "trainer")}
    assert [named(path) for path, text in said.items() if len(text) < DOCSTRING_CHARS_MIN] == []


def test_no_module_outgrows_a_head() -> None:
    long = {named(p): n for p in modules("edge", "trainer") if (n := len(p.read_text().splitlines())) > LINES_MAX}
    assert long == {}


def test_no_global_state_and_no_blind_except() -> None:
    wrong = []
    for path in modules("edge", "trainer"):
        text = path.read_text().splitlines()
        for node in ast.walk(tree(path)):
            where = f"{named(path)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Global):
                wrong.append(f"{where}: global statement")
            if isinstance(node, ast.ExceptHandler):
                caught = ast.walk(node.type) if node.type else iter([ast.Name("BaseException")])
                names = {name.id for name in caught if isinstance(name, ast.Name)}
                excused = re.search(r"#\s*noqa: BLE001\W+\w+", text[node.lineno - 1])
                again = isinstance(node.body[-1], ast.Raise)  # as it is, or as one of our errors
                if names & {"Exception", "BaseException"} and not excused and not again:
                    wrong.append(f"{where}: catches everything without saying why (# noqa: BLE001 - reason)")
    assert wrong == []


def test_no_test_is_skipped_without_a_reason() -> None:
    wrong = []
    for path in modules("tests"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in SKIPS:
                given = any(keyword.arg == "reason" for keyword in node.keywords)
                if not given and not (node.args and ast.unparse(node.func) == "pytest.skip"):
                    wrong.append(f"{named(path)}:{node.lineno}: skipped without a reason")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                bare = [mark for mark in node.decorator_list if ast.unparse(mark) in SKIPS]
                wrong += [f"{named(path)}:{mark.lineno}: skipped without a reason" for mark in bare]
    assert wrong == []


def test_no_module_calls_a_name_service() -> None:
    """`ipaddress`-checked numeric addresses go through the loop; these calls resolve names."""
    wrong = []
    for path in modules("edge"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func).rpartition(".")[2]
                if name in HOST_NAME_CALLS:
                    wrong.append(f"{named(path)}:{node.lineno}: {name}")
    assert wrong == []


# --- in a process of its own -----------------------------------------------------------------------------------------

IMPORT_EVERYTHING = """
import importlib, json, pathlib, sys
events = []
PROGRAMS = {"edge.pos.embedded_broker"}  # runs in a process of its own, and needs the extra `demo`
names = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo", "socket.connect"}
sys.addaudithook(lambda event, args: events.append([event, repr(args[1:])[:200]]) if event in names else None)
failed = {}
for path in sorted(pathlib.Path("edge").rglob("*.py")):
    name = ".".join(path.with_suffix("").parts)
    if name.endswith("__main__") or name in PROGRAMS:
        continue
    try:
        importlib.import_module(name.removesuffix(".__init__"))
    except ImportError as error:
        failed[name] = str(error)
loaded = sorted({name.split(".")[0] for name in sys.modules})
EXTRA
print(json.dumps({"loaded": loaded, "failed": failed, "events": events}))
"""
SESSION = """
import os
import onnxruntime
assert os.environ.get("ORT_DISABLE_TELEMETRY") == "1", "must be set before onnxruntime is imported"
for model in sorted(pathlib.Path("edge/agent/policy").glob("*.onnx")):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    onnxruntime.InferenceSession(model.read_bytes(), options, providers=["CPUExecutionProvider"])
"""


def clean_environment(home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "OMP_NUM_THREADS": "1"}


def run_python(code: str, home: Path, *prefix: str) -> str:
    result = subprocess.run(
        [*prefix, sys.executable, "-B", "-c", code],
        cwd=ROOT,
        env=clean_environment(home),
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_whole_box_loads_without_the_trainer_and_touches_nothing(tmp_path: Path) -> None:
    found = json.loads(run_python(IMPORT_EVERYTHING.replace("EXTRA", ""), tmp_path))
    assert found["failed"] == {}
    assert not {"torch", "gymnasium", "onnx", "trainer", "matplotlib", "pandas"} & set(found["loaded"])
    assert found["events"] == []
    assert list(tmp_path.rglob("*")) == []


def test_an_inference_session_looks_no_name_up_and_writes_nothing(tmp_path: Path) -> None:
    code = IMPORT_EVERYTHING.replace("EXTRA", SESSION)
    found = json.loads(run_python(code, tmp_path))
    assert found["events"] == []
    assert list(tmp_path.rglob("*")) == []


def can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-f", "-e", "trace=none", "true"], capture_output=True).returncode == 0


@pytest.mark.system
@pytest.mark.skipif(not can_trace(), reason="strace is not installed, or this machine does not let it trace")
def test_the_kernel_saw_no_connection_attempt_either(tmp_path: Path) -> None:
    """The audit hook sees Python alone; libraries written in C++ open sockets unseen by it."""
    trace = tmp_path / "trace"
    home = tmp_path / "home"
    home.mkdir()
    code = IMPORT_EVERYTHING.replace("EXTRA", SESSION)
    prefix = ("strace", "-f", "-qq", "-o", str(trace), "-e", "trace=connect,sendto,sendmsg,sendmmsg")
    run_python(code, home, *prefix)
    inet = [line for line in trace.read_text().splitlines() if "AF_INET" in line]
    assert inet == []


def test_onnxruntime_is_told_to_stay_silent_before_anything_can_import_it(tmp_path: Path) -> None:
    """In code too: not every box runs under our unit. Setting it after the import is too late."""
    code = "import edge, os, sys; print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime' in sys.modules)"
    assert run_python(code, tmp_path).split() == ["1", "False"]


def test_help_loads_neither_numpy_nor_onnxruntime(tmp_path: Path) -> None:
    code = """
import sys
sys.argv = ["pomona", "--help"]
from edge.__main__ import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
print()
print(sorted({"numpy", "onnxruntime", "torch", "cryptography", "uvloop"} & set(sys.modules)))
"""
    assert run_python(code, tmp_path).splitlines()[-1] == "[]"
