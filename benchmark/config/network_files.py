"""Loads users' network files in isolation and hashes the code that they import."""

from __future__ import annotations

import ast
import builtins
import functools
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import itertools
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmark.config import own_packages
from benchmark.utils.errors import UserError

#: Begins the names of packages under which network files and their neighbours are imported.
PREFIX = "_benchmark_user_"
#: Families that a user's network can choose as a class attribute.
USER_GROUPS = ("lightweight", "ic", "user")
#: Begins a BibTeX entry; the group is its key.
CITATION = re.compile(r"@\w+\s*\{\s*([^\s,{}]+)\s*,")


@dataclass(frozen=True)
class NetworkFile:
    """A Python file that a user names.

    Attributes:
        path: absolute.
        module: its name, ``net``, or ``models.net`` where it imports as part of a package.
        folders: folders that imports are looked up in first: the file's own, and the folder of its package.
    """

    path: Path
    module: str
    folders: tuple[Path, ...]

    @classmethod
    def at(cls, path: Path) -> NetworkFile:
        """Find out how a file imports: from its own folder as a script does, or as part of a package."""
        path = Path(os.path.abspath(path))
        stem = path.stem.replace(".", "_")
        names, above = [stem], path.parent
        while (above / "__init__.py").is_file():
            names.insert(0, above.name)
            above = above.parent
        imported = _imports(path, ".".join(names[:-1]))
        if len(names) > 1 and any(name.partition(".")[0] == names[0] for name in imported):
            return cls(path, ".".join(names), (path.parent, above))
        return cls(path, stem, (path.parent,))

    def code(self) -> dict[str, Path]:
        """Return this file and all files that it imports, directly or not, without installed packages.

        Import statements inside of functions count too, and so does :func:`importlib.import_module` of a literal name.

        Returns:
            Relative name of a module's file -> its path.
        """
        start = {self.module: self.path} | dict(_modules(self.module.rpartition(".")[0], self.find))
        return _by_file_name(_closure(start, self.find))

    def find(self, name: str) -> ModuleSpec | None:
        """Return the spec of a top-level module in the file's folders; it comes before all others of that name."""
        spec = _find_in(name, self.folders)
        if spec is None or (spec.origin and own_packages.is_own(Path(spec.origin))):
            return None
        if spec.origin is None:  # a folder without __init__.py yields to a package of that name, except to one of ours
            folder = Path(next(iter(spec.submodule_search_locations or ())))
            ours = name in own_packages.CODE and not own_packages.is_own(folder)
            if not (any(folder.rglob("*.py")) if ours else getattr(_installed(name), "origin", None) is None):
                return None
        return spec

    def load(self, digest: str) -> ModuleType:
        """Import the file once per content.

        The file and its neighbours become modules of a package with a unique name. Their import statements look in
        this package first, also statements in functions that run later, so a neighbour is never mistaken for a module
        of the same name that the harness, a library or another network has imported.
        :func:`importlib.import_module` finds neighbours by relative names only.

        Args:
            digest: of the file and all that it imports.
        """
        package = self._package(digest)
        name = f"{package}.{self.module}"
        if name in sys.modules:
            return sys.modules[name]
        if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
            sys.meta_path.insert(0, _Finder())
        spec = ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [str(folder) for folder in self.folders]
        sys.modules[package] = importlib.util.module_from_spec(spec)
        _IMPORTERS[package] = _importer(package, self.find)
        try:
            if "." in self.module:
                return importlib.import_module(name)  # after the packages that it is part of
            loader = _Loader(name, str(self.path))
            file_spec = importlib.util.spec_from_file_location(name, self.path, loader=loader)
            assert file_spec is not None
            module = importlib.util.module_from_spec(file_spec)
            sys.modules[name] = module
            loader.exec_module(module)
            return module
        except BaseException:
            for loaded in [loaded for loaded in sys.modules if loaded.partition(".")[0] == package]:
                del sys.modules[loaded]
            raise

    def unseen(self, digest: str) -> list[str]:
        """Name files that the loaded file has imported by a computed name, so that :meth:`code` does not know them."""
        package = self._package(digest)
        loaded = [getattr(module, "__file__", None) for name, module in sys.modules.items() if name.startswith(package)]
        known = {str(path) for path in self.code().values()}
        return sorted({Path(file).name for file in loaded if file and file not in known and os.path.getsize(file)})

    def _package(self, digest: str) -> str:
        return PREFIX + hashlib.sha256(f"{self.path}\0{digest}".encode()).hexdigest()[:12]


def package_code(module: str) -> dict[str, Path]:
    """Return the files that make up a module that is found by name, as :meth:`NetworkFile.code` does.

    Nothing is returned for a module of an installed package, whose version tells its content.
    """
    return _by_file_name(_closure(dict(_modules(module, _elsewhere)), lambda name: None))


def class_texts(file: Path, network_class: str, names: Collection[str]) -> dict[str, str]:
    """Return attributes of a class that its body sets to plain strings, by name, without running the file."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):  # loading it says so better
        return {}
    bodies = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == network_class]
    texts = {}
    for node in itertools.chain(*bodies):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if isinstance(target, ast.Name) and target.id in names:
            if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
                raise UserError(f"{file}:{node.lineno}: {target.id} of {network_class}: expected a plain string")
            texts[target.id] = value.value
    return texts


def declared_facts(pattern: str, file: Path, network_class: str) -> dict[str, str]:
    """Return what a user's class says about itself: ``display_name``, ``family``, ``citation``, blank by default.

    Raises:
        UserError: an attribute is no plain string, the family is unknown, or the citation is no BibTeX entry.
    """
    facts = dict.fromkeys(("display_name", "family", "citation"), "")
    facts |= class_texts(file, network_class, facts)
    family, citation = facts["family"], facts["citation"].strip()
    if family and family not in USER_GROUPS:
        raise UserError(f"{pattern}: family = {family!r}; expected {', '.join(USER_GROUPS)}, or no family")
    if citation and not CITATION.match(citation):
        raise UserError(
            f"{pattern}: citation = {citation[:30]!r}; expected a BibTeX entry, such as '@article{{key, ...}}'"
        )
    return facts | {"citation": citation}


def digests(code: Mapping[str, Path]) -> dict[str, str]:
    """Return the content hash of each file.

    Raises:
        UserError: one cannot be read.
    """
    try:
        return {name: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for name, path in sorted(code.items())}
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be read ({error.strerror}); expected a file of the network's code: restore it"
        ) from error


def location(error: BaseException, code: Mapping[str, Path]) -> str:
    """Return where a network's own files raised an exception: ``mynet.py:12, in forward``; blank if nowhere."""
    names = {str(path): Path(name).name for name, path in code.items()}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in names]
    if frames:
        return f"{names[frames[-1].filename]}:{frames[-1].lineno}, in {frames[-1].name}"
    if isinstance(error, SyntaxError) and error.filename in names:
        return f"{names[error.filename]}:{error.lineno}"
    return ""


def classes(module: ModuleType, base: type) -> list[str]:
    """Name the classes of a kind that a module defines itself."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__
    ]


def refuse_arguments(network: type, target: str, **arguments: object) -> None:
    """Refuse a class that cannot be called with these arguments.

    Raises:
        UserError: names the class and what it takes.
    """
    try:
        signature = inspect.signature(network)
    except ValueError:  # written in C, with nothing to look at
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise UserError(
            f"{target}: takes {signature} ({error}); expected arguments {' and '.join(arguments)}, the numbers of "
            "channels of the image and of the logits: name those of __init__ like this, and give all others a default"
        ) from error


class _Loader(SourceFileLoader):
    """Compiles the file's present text; Python's cache would also serve an older text of equal size and time."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        importer = _IMPORTERS[module.__name__.partition(".")[0]]
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": importer}
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds neighbours of network files under the names of their packages."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return _find_in(fullname, path or ()) if fullname.startswith(PREFIX) else None


#: The import statement of each package of a network file.
_IMPORTERS: dict[str, Callable[..., Any]] = {}


def _importer(package: str, find: Callable[[str], ModuleSpec | None]) -> Callable[..., Any]:
    known: dict[str, bool] = {}

    def import_(
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        top = name.partition(".")[0]
        if not level and top not in known:
            known[top] = find(top) is not None
        if level or not known[top]:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(f"{package}.{name}", globals, locals, fromlist or (), 0)
        return module if fromlist else sys.modules[f"{package}.{top}"]

    return import_


def _find_in(name: str, folders: Sequence[str | Path]) -> ModuleSpec | None:
    """Look for a module in folders by the last part of its name, in what they hold at this moment."""
    loaders = (
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
        (_Loader, importlib.machinery.SOURCE_SUFFIXES),
    )
    finders = [importlib.machinery.FileFinder(str(folder), *loaders) for folder in folders]
    specs = [spec for finder in finders if (spec := finder.find_spec(name)) is not None]
    return next((spec for spec in specs if spec.origin), specs[0] if specs else None)


def _installed(name: str) -> ModuleSpec | None:
    """Return the spec of a top-level module that a plain import statement finds."""
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a module that was put together by hand has none
        return None


def _elsewhere(name: str) -> ModuleSpec | None:
    """Return the spec of a user's top-level module: on PYTHONPATH, or installed as editable."""
    spec = None if name in sys.stdlib_module_names else _installed(name)
    paths = [spec.origin if spec.has_location else None, *(spec.submodule_search_locations or ())] if spec else []
    files = [Path(path) for path in paths if path]
    library = Path(os.__file__).parent
    others = ("site-packages", "dist-packages")
    if not files or any(
        file.is_relative_to(library) or set(others) & set(file.parts) or own_packages.is_own(file) for file in files
    ):
        return None
    return spec


def _by_file_name(modules: Mapping[str, Path]) -> dict[str, Path]:
    return {
        f"{name.replace('.', '/')}{'/__init__' * (path.stem == '__init__')}{path.suffix}": path
        for name, path in modules.items()
    }


def _closure(start: Mapping[str, Path], find: Callable[[str], ModuleSpec | None]) -> dict[str, Path]:
    """Add all modules that some import, without running any; empty ones are left out."""
    modules, queue = dict(start), list(start)
    while queue:
        name = queue.pop()
        package = name if modules[name].stem == "__init__" else name.rpartition(".")[0]
        for imported in _imports(modules[name], package):
            for module, path in _modules(imported, lambda top: find(top) or _elsewhere(top)):
                if modules.setdefault(module, path) is path:
                    queue.append(module)
    return {name: path for name, path in modules.items() if path.stat().st_size}


def _modules(name: str, find: Callable[[str], ModuleSpec | None]) -> Iterator[tuple[str, Path]]:
    """Yield the modules that ``import name`` runs, as far as they exist, with their files."""
    parts = name.split(".")
    spec = find(parts[0]) if parts[0] else None
    for count in range(1, len(parts) + 1):
        if spec is None:
            return
        if spec.has_location and Path(spec.origin or "").is_file():
            assert spec.origin is not None
            yield ".".join(parts[:count]), Path(spec.origin)
        folders = list(spec.submodule_search_locations or ())
        spec = _find_in(parts[count], folders) if count < len(parts) else None


def _imports(file: Path, package: str) -> Iterator[str]:
    """Yield the names of all modules that a file may import, relative ones within its package.

    ``from a import b`` yields ``a.b`` too, which may be a module. A file that does not parse imports nothing.
    """
    try:
        statements = _import_statements(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return
    for module, names in statements:
        base = _absolute(module, package)
        yield base
        yield from (f"{base}.{name}".removeprefix(".") for name in names)


@functools.lru_cache(maxsize=1024)  # a study asks for its networks' files again at every run
def _import_statements(content: bytes) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the module of each import of a file, as written, and the names that are imported from it."""
    found: list[tuple[str, tuple[str, ...]]] = []
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            found += [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(("." * node.level + (node.module or ""), tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                found.append((node.args[0].value, ()))
    return tuple(found)


def _absolute(name: str, package: str) -> str:
    """Resolve a relative name; that of a file in no package is relative to the file's folder."""
    try:
        return importlib.util.resolve_name(name, package)
    except ImportError:  # no package, or one of fewer levels
        return name.lstrip(".")
