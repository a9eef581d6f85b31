# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program start as the kernel sees it: a dynamic linker and an interpreter going through search paths."""

import os

from .tree import age, write

SUFFIXES = (".cpython-311-x86_64-linux-gnu.so", ".abi3.so", ".so", ".py")


class ProgramStart:
    """n_directories search directories below top, half of libraries and half of Python modules; what is looked for lies
    in one of them each, so that all before it are asked in vain."""

    def __init__(self, top, n_directories=40, n_names=40):
        half = n_directories // 2
        self.libraries = [os.path.join("prog", f"part{i:02}", "lib") for i in range(half)]
        self.modules = [os.path.join("prog", f"part{i:02}", "python3", "site-packages") for i in range(half)]
        self.n_names = n_names
        for n in range(n_names):
            write(os.path.join(top, self.libraries[n % half], f"libname{n}.so.1"), mode=0o755)
            write(os.path.join(top, self.modules[n % half], f"module{n}", "__init__.py"))
        age(top)

    def run(self, top, opens=False):
        """One start. Returns (lookups in vain, lookups that found something). opens: libraries and modules are also read, as
        programs do and as makes directories hot."""
        result = [0, 0]
        for n in range(self.n_names):
            found = (self._search(top, self.libraries, [f"libname{n}.so.1"], result),
                     self._search(top, self.modules, [f"module{n}", *(f"module{n}{s}" for s in SUFFIXES)], result))
            for path in found if opens else ():
                with open(path if os.path.isfile(path) else os.path.join(path, "__init__.py"), "rb") as f:
                    f.read(1)
        return tuple(result)

    @staticmethod
    def _search(top, directories, names, result):
        for directory in directories:
            for name in names:
                path = os.path.join(top, directory, name)
                try:
                    os.stat(path)
                except FileNotFoundError:
                    result[0] += 1
                else:
                    result[1] += 1
                    return path
        raise AssertionError(f"none of {names} is there")


class SearchPath:
    """Programs that look for their files in directories (relative to a top), and find one in each."""

    def __init__(self, directories, absent=5):
        self.directories, self.names = directories, [f"absent{n}" for n in range(absent)]

    def run(self, top):
        """One start: names that are not there, a listing, and one file that is opened."""
        for directory in self.directories:
            path = os.path.join(top, directory)
            for name in self.names:
                if os.path.exists(os.path.join(path, name)):
                    raise AssertionError(f"{path}/{name} exists")
            found = next(e for e in os.scandir(path) if e.is_file())
            with open(found.path, "rb"):
                pass
