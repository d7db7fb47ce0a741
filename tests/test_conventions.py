"""The project's conventions, as tests.

Every rule is a function that finds the places that break it. A rule may have an allowlist, place → reason. It can only
shrink: a new place fails the test, and so does an entry that is no longer needed.

"Public" is what has no leading underscore, neither itself nor the class or module it is in; and every operator, whose
module has one so that it does not shadow the function it holds.
"""

from __future__ import annotations

import ast
import functools
import gc
import graphlib
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import rxstream

PACKAGE = Path(rxstream.__file__).parent
TESTS = Path(__file__).parent
PROJECT = TESTS.parent

MAX_MODULE_LINES = 400
MAX_BODY_LINES = 50
MAX_POSITIONAL = 3
ONE_A_FILE = ("rxstream.operators", "rxstream.tracks")
RX_CALLBACKS = ("on_next", "on_error", "on_completed")

Function = ast.FunctionDef | ast.AsyncFunctionDef

LONG_MODULES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
POSITIONAL_OPTIONS: dict[str, str] = {}
TAKES_KWARGS: dict[str, str] = {
    "rxstream.stream_config.StreamConfig.from_profile": "fields of the class, which refuses any other",
    "rxstream.stream_config.StreamConfig.load": "fields of the class, which refuses any other",
    "rxstream.stream_config.StreamConfig.replace": "fields of the class, which refuses any other",
    "rxstream.stream_config.StreamConfig.stream": "the options of stream(), typed, which refuses any other",
}
UNDOCUMENTED: dict[str, str] = {}
UNDOCUMENTED_ERRORS: dict[str, str] = {}
LATE_IMPORTS: dict[str, str] = {
    "rxstream.aggregate.Aggregator.__init__": "needs pydantic, which the import of stream() does not",
    "rxstream.creation.from_sdk": "needs pydantic, which the import of stream() does not",
    "rxstream.operators._record._Recording.__init__": "needs the providers, which the import of stream() does not",
    "rxstream.operators._record.record": "needs the providers, which the import of stream() does not",
    "rxstream.creation.stream": "needs pydantic, which the import of stream() does not",
}
WITHOUT_TESTS: dict[str, str] = {
    "rxstream.typing": "protocols: nothing to run",
}
OF_THE_WHOLE = ("laws", "live", "security", "typing")
"""Folders of tests that belong to no module."""
WITHOUT_MODULE: dict[str, str] = {
    "tests/test_conventions.py": "about the project",
    "tests/test_docs.py": "about the documents",
    "tests/test_docstrings.py": "about the examples in docstrings",
    "tests/test_notebooks.py": "about the notebooks",
}


@dataclass(frozen=True)
class Module:
    """A module of the package, parsed."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def lines(self) -> int:
        return len(self.path.read_text(encoding="utf-8").splitlines())

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"

    @property
    def is_public(self) -> bool:
        name = self.name.replace("._", ".") if self.name in operator_modules() else self.name
        return not any(word.startswith("_") for word in name.split("."))


@dataclass(frozen=True)
class Definition:
    """A function or method, and where it is."""

    module: Module
    owner: str
    node: Function

    @property
    def place(self) -> str:
        return ".".join(word for word in (self.module.name, self.owner, self.node.name) if word)

    @property
    def is_public(self) -> bool:
        named = not self.node.name.startswith("_") or self.node.name in ("__init__", "__call__")
        return (
            self.module.is_public and named and not any(word.startswith("_") for word in self.owner.split(".") if word)
        )


@functools.cache
def operator_modules() -> dict[str, str]:
    """The modules that hold an operator or a combination, and its name."""
    found: dict[str, str] = {}
    for package in ONE_A_FILE:
        home = importlib.import_module(package)
        names = (name for name in home.__all__ if inspect.isfunction(getattr(home, name)))
        found.update({f"{package}._{name}": name for name in names})
    return found


@functools.cache
def modules() -> tuple[Module, ...]:
    found: list[Module] = []
    gc.disable()  # of the trees nothing is garbage, and looking for it takes longer than parsing
    for path in sorted(PACKAGE.rglob("*.py")):
        words = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(words[:-1] if words[-1] == "__init__" else words)
        found.append(Module(name, path, ast.parse(path.read_text(encoding="utf-8"), str(path))))
    gc.enable()
    return tuple(found)


@pytest.fixture(scope="module", autouse=True)
def _trees() -> Iterator[None]:
    """When these tests are over, nobody needs them."""
    yield
    modules.cache_clear()


def definitions(*, nested: bool = False) -> Iterator[Definition]:
    """Functions and methods of the package; those inside functions too if `nested`."""

    def walk(module: Module, node: ast.AST, owner: str) -> Iterator[Definition]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield Definition(module, owner, child)
                if nested:
                    yield from walk(module, child, f"{owner}.{child.name}".lstrip("."))
            elif isinstance(child, ast.ClassDef):
                yield from walk(module, child, f"{owner}.{child.name}".lstrip("."))
            elif isinstance(child, ast.Try) or (isinstance(child, ast.If) and not for_type_checkers(child)):
                yield from walk(module, child, owner)

    for module in modules():
        yield from walk(module, module.tree, "")


def for_type_checkers(node: ast.If) -> bool:
    return "TYPE_CHECKING" in ast.unparse(node.test)


def public_functions() -> Iterator[Definition]:
    return (found for found in definitions() if found.is_public and "overload" not in decorators(found.node))


def decorators(node: Function | ast.ClassDef) -> set[str]:
    return {re.split(r"[(\s]", ast.unparse(decorator))[0].rpartition(".")[2] for decorator in node.decorator_list}


def body_without_docstring(node: Function) -> list[ast.stmt]:
    return node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body


def holds(broken: Mapping[str, object], allowed: Mapping[str, str]) -> None:
    """No place breaks the rule but those that are allowed, and all of those still do."""
    new = {place: why for place, why in broken.items() if place not in allowed}
    assert not new, "breaks the rule:\n" + "\n".join(f"  {place}: {why}" for place, why in sorted(new.items()))
    stale = sorted(set(allowed) - set(broken))
    assert not stale, f"take these off the allowlist, they keep the rule now: {stale}"


def overrides_foreign(definition: Definition) -> bool:
    """Whether the method's signature is set by a base class of another package."""
    if not definition.owner or definition.node.name == "__init__":
        return False
    owner: Any = importlib.import_module(definition.module.name)
    for word in definition.owner.split("."):
        owner = getattr(owner, word)
    return any(
        definition.node.name in vars(base) and not base.__module__.startswith("rxstream") for base in owner.__mro__[1:]
    )


def test_an_allowlist_may_only_shrink() -> None:
    """An entry that is no longer needed is itself a failure."""
    with pytest.raises(AssertionError, match="take these off"):
        holds({}, {"rxstream.somewhere": "was too long"})
    with pytest.raises(AssertionError, match="breaks the rule"):
        holds({"rxstream.somewhere": 401}, {})
    holds({"rxstream.somewhere": 401}, {"rxstream.somewhere": "a table"})


def test_modules_are_short() -> None:
    """A module has at most 400 lines."""
    holds({module.name: module.lines for module in modules() if module.lines > MAX_MODULE_LINES}, LONG_MODULES)


def test_functions_are_short() -> None:
    """A function's body has at most 50 lines, functions inside it counted, its docstring not."""
    lengths: dict[str, int] = {}
    for found in definitions(nested=True):
        body = body_without_docstring(found.node)
        if body and (length := (body[-1].end_lineno or 0) - body[0].lineno + 1) > MAX_BODY_LINES:
            lengths[found.place] = length
    holds(lengths, LONG_FUNCTIONS)


def test_an_operator_is_a_file() -> None:
    """Each function of `rxstream.operators` and `rxstream.tracks` lives in ``_name.py``, and no other does beside it."""
    broken: dict[str, str] = {}
    for place, name in operator_modules().items():
        value = getattr(importlib.import_module(place.rpartition(".")[0]), name)
        home = importlib.import_module(value.__module__)
        functions = [other for other in home.__all__ if inspect.isfunction(getattr(home, other))]
        if value.__module__ != place or functions != [name]:
            broken[name] = f"is in {value.__module__}, which shows {functions}"
    holds(broken, {})


def test_an_operator_shows_what_it_does() -> None:
    """Its docstring has a marble diagram and an example, which tests/test_docstrings.py runs."""
    broken: dict[str, str] = {}
    for place, name in operator_modules().items():
        said = inspect.getdoc(getattr(importlib.import_module(place), name)) or ""
        if not re.search(r"^ +[\w ]+: +-", said, re.MULTILINE):
            broken[name] = "has no marble diagram"
        elif ">>> " not in said:
            broken[name] = "has no example"
    holds(broken, {})


def defined_names(module: Module) -> set[str]:
    """Public names of what a module defines at its top."""
    names: set[str] = set()
    for node in module.tree.body:
        if isinstance(node, (Function, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign) and not is_type_variable(node.value):
            targets = (name for target in node.targets for name in ast.walk(target))
            names.update(target.id for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


def imported_names(module: Module) -> set[str]:
    """Names that a module imports from the package; one that loads them when they are used does so for type checkers."""
    body = list(module.tree.body)
    body += [node for part in body if isinstance(part, ast.If) and for_type_checkers(part) for node in part.body]
    found = (node for node in body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rxstream"))
    return {alias.asname or alias.name for node in found for alias in node.names}


def is_type_variable(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func) in ("TypeVar", "ParamSpec", "TypeVarTuple")


def test_all_is_what_is_visible() -> None:
    """``__all__`` of every public module names all its public definitions, else only imports from our own modules.

    A package that defines nothing is a list of such imports and names all of them.
    """
    broken: dict[str, str] = {}
    for module in filter(lambda module: module.is_public, modules()):
        loaded: Any = importlib.import_module(module.name)
        defined, imported = defined_names(module), imported_names(module)
        if module.is_package and not defined and not imported:
            continue  # a folder, nothing more
        listed = set(getattr(loaded, "__all__", ()))
        must = defined or (imported if module.is_package else defined)
        if missing := sorted(name for name in listed if not hasattr(loaded, name)):
            broken[module.name] = f"names {missing}, which are not there"
        elif not must <= listed <= defined | imported:
            broken[module.name] = f"lacks {sorted(must - listed)}, has {sorted(listed - defined - imported)} too much"
    holds(broken, {})


def test_options_are_keyword_only() -> None:
    """In public functions at most one parameter with a default is positional, and no bool is.

    At most three parameters are positional. Exempt are Rx's own three callbacks, which come in Rx's order, and what a
    base class of another package prescribes.
    """
    broken: dict[str, str] = {}
    for found in public_functions():
        arguments = found.node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
        pairs = list(zip(positional, defaults, strict=True))
        if found.owner and "staticmethod" not in decorators(found.node):
            pairs = pairs[1:]
        pairs = [(argument, default) for argument, default in pairs if argument.arg not in RX_CALLBACKS]
        options = [argument.arg for argument, default in pairs if default is not None]
        flags = [argument.arg for argument, _ in pairs if is_flag(argument)]
        if (options[1:] or flags or len(pairs) > MAX_POSITIONAL) and not overrides_foreign(found):
            broken[found.place] = f"positional: options {options}, flags {flags}, {len(pairs)} in all"
    holds(broken, POSITIONAL_OPTIONS)


def is_flag(argument: ast.arg) -> bool:
    return argument.annotation is not None and ast.unparse(argument.annotation) in ("bool", "bool | None")


def test_no_kwargs() -> None:
    """No public function takes ``**kwargs``: a misspelt option must fail."""
    broken = {found.place: "takes **kwargs" for found in public_functions() if found.node.args.kwarg}
    holds(broken, TAKES_KWARGS)


def test_everything_public_has_a_docstring() -> None:
    """Every module, public class and public function says what it is; a class speaks for its ``__init__``."""
    broken: dict[str, str] = {}
    for module in modules():
        if not ast.get_docstring(module.tree):
            broken[module.name] = "module"
        for node in module.tree.body if module.is_public else ():
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node):
                broken[f"{module.name}.{node.name}"] = "class"
    for found in public_functions():
        named = found.node.name not in ("__init__", "__call__") and "override" not in decorators(found.node)
        if named and not ast.get_docstring(found.node) and "setter" not in decorators(found.node):
            broken[found.place] = "function"
    holds(broken, UNDOCUMENTED)


def raised_in(node: Function) -> Iterator[str]:
    """Names of the errors that the function itself raises, what functions inside it raise left out."""
    pending: list[ast.AST] = [*node.body]
    while pending:
        current = pending.pop()
        if isinstance(current, (Function, ast.ClassDef, ast.Lambda)):
            continue
        if isinstance(current, ast.Raise) and isinstance(current.exc, ast.Call):
            yield ast.unparse(current.exc.func).rpartition(".")[2]
        pending.extend(ast.iter_child_nodes(current))


def documented_errors(docstring: str) -> set[str]:
    """Names on the left of the colons in the ``Raises:`` section."""
    _, _, section = inspect.cleandoc(docstring).partition("Raises:\n")
    names: set[str] = set()
    for line in section.splitlines():
        if line and not line.startswith(" "):
            break
        if entry := re.match(r"    ([\w., `|]+):", line):
            names.update(word.strip("` ").rpartition(".")[2] for word in re.split(r",|\|| or ", entry[1]))
    return names


def ancestors(error: str) -> set[str]:
    """The error's name and those of the errors of ours that it is a kind of."""
    kind = getattr(importlib.import_module("rxstream.errors"), error, None)
    return {base.__name__ for base in kind.__mro__ if base.__module__ == "rxstream.errors"} if kind else {error}


def test_every_error_is_documented() -> None:
    """An error that a public function raises is named under ``Raises:``, itself or as a kind of a named one."""
    broken: dict[str, str] = {}
    for found in public_functions():
        docstring = ast.get_docstring(found.node) or ""
        if found.node.name in ("__init__", "__call__"):
            owner = next(
                (n for n in ast.walk(found.module.tree) if isinstance(n, ast.ClassDef) and found.node in n.body), None
            )
            docstring += "\n" + ((ast.get_docstring(owner) or "") if owner else "")
        known = documented_errors(docstring)
        if missing := sorted(error for error in raised_in(found.node) if not ancestors(error) & known):
            broken[found.place] = f"does not document {', '.join(missing)}"
    holds(broken, UNDOCUMENTED_ERRORS)


def test_imports_stand_at_the_top() -> None:
    """An import inside a function is for another package, one that is optional or slow to load; never for our own."""
    broken: dict[str, str] = {}
    for found in definitions(nested=True):
        for node in ast.walk(found.node):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rxstream":
                broken[found.place] = f"imports {node.module}"
    holds(broken, LATE_IMPORTS)


def imports_of(module: Module, known: set[str]) -> set[str]:
    """Modules of the package that a module imports, anywhere in it, but for type checkers."""
    found: set[str] = set()
    pending: list[ast.AST] = [module.tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and for_type_checkers(node):
            pending.extend(node.orelse)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in known else node.module)
        else:
            pending.extend(ast.iter_child_nodes(node))
    return found & known - {module.name}


def test_no_import_cycles() -> None:
    """Imports make no circle, not even with those inside functions."""
    known = {module.name for module in modules()}
    graph = {module.name: imports_of(module, known) for module in modules()}
    assert any(graph.values()), "no imports were found at all: the test is blind"
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_tests_mirror_the_package() -> None:
    """``rxstream/x/y.py`` is tested by ``tests/x/test_y.py``; private helpers may be tested by their neighbours."""
    missing: dict[str, str] = {}
    for module in modules():
        relative = module.path.relative_to(PACKAGE)
        test = TESTS / relative.parent / f"test_{relative.stem.lstrip('_')}.py"
        if module.is_package or (relative.stem.startswith("_") and module.name not in operator_modules()):
            continue
        if not test.exists():
            missing[module.name] = f"{test.relative_to(PROJECT)} is missing"
    holds(missing, WITHOUT_TESTS)


def test_every_test_file_has_its_module() -> None:
    """A test file whose module was renamed or removed does not stay behind."""
    orphans: dict[str, str] = {}
    for test in sorted(TESTS.rglob("test_*.py")):
        relative = test.relative_to(TESTS)
        if relative.parts[0] in OF_THE_WHOLE:
            continue
        name = relative.stem.removeprefix("test_")
        homes = [PACKAGE / relative.parent / f"{name}.py", PACKAGE / relative.parent / f"_{name}.py"]
        folder = PACKAGE / relative.parent  # of a long one, by ideas: called as its module is
        homes += (folder.with_name(f"{folder.name}.py"), folder.with_name(f"_{folder.name}.py"))
        if not any(home.exists() for home in homes) and not (PACKAGE / relative.parent / name).is_dir():
            orphans[test.relative_to(PROJECT).as_posix()] = "tests no module of that name"
    holds(orphans, WITHOUT_MODULE)


def project_texts() -> Iterator[Path]:
    folders = (PACKAGE, TESTS, *(PROJECT / name for name in ("docs", "benchmarks", "notebooks", ".github", ".ci")))
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.suffix in (".py", ".md", ".yml", ".ipynb", ".toml"))
    yield from (path for path in PROJECT.glob("*") if path.suffix in (".md", ".toml") or path.name == "Makefile")


def test_no_paths_of_a_developers_machine() -> None:
    """No file speaks of a folder that exists on one machine only."""
    private = re.compile(r"(?<![\w.:/])/(?:home|root|work|Users|tmp|opt)/\w+")
    broken: dict[str, str] = {}
    for path in project_texts():
        if found := private.search(path.read_text(encoding="utf-8")):
            broken[path.name] = found[0]
    holds(broken, {})


HEAVY = (
    "openai", "anthropic", "httpx", "httpx2", "aiohttp", "rich", "xllamacpp", "genai_prices", "IPython", "anywidget",
    "pydantic_settings",
)  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has loaded after running `code`."""
    script = f"{code}\nimport sys\nprint(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=PROJECT)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_import_is_light() -> None:
    """``import rxstream`` loads no SDK, no HTTP library and no optional package."""
    assert loaded_by("import rxstream") == set()


def test_every_public_name_is_light() -> None:
    """Neither does touching each public name: what is heavy is loaded by the first request that needs it."""
    assert loaded_by("import rxstream\nfor name in getattr(rxstream, '__all__', ()): getattr(rxstream, name)") == set()


def test_every_module_is_light() -> None:
    """Neither does importing every module of the package."""
    names = [found.name for found in pkgutil.walk_packages([str(PACKAGE)], "rxstream.") if "cli" not in found.name]
    assert loaded_by("import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names)) == set()


def test_the_import_test_can_see() -> None:
    """The probe reports a heavy package that is loaded."""
    assert loaded_by("import rich") == {"rich"}
