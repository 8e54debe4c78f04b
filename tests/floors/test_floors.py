"""The house stands: no room includes, or links, anything that is not on a floor below it (DESIGN.md's picture).

    python3 test_floors.py SOURCE_DIR
"""
import pathlib
import re
import sys
import tempfile
import unittest

# From the ground up. Rooms of one floor are neighbours that do not see each other.
FLOORS = [["base"], ["dicom", "text", "nn", "eval"], ["datasets"], ["align"], ["retrieve", "caption"], ["web"], ["cli"]]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
SOURCES = {".c", ".h", ".inc", ".def", ".cpp", ".hpp", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
NEEDS = re.compile(r"\bsu_([a-z]+)\b")


def climbs(root):
    """Every include or link that does not go down, as "file: what"."""
    found = []
    for room, floor in FLOOR.items():
        files = sorted(p for p in (root / room).rglob("*") if p.suffix in SOURCES or p.name == "CMakeLists.txt")
        for path in files:
            text = path.read_text(encoding="utf-8")
            if path.name == "CMakeLists.txt":
                targets = [name for name in NEEDS.findall(text) if name in FLOOR]
            else:
                targets = []
                for include in INCLUDE.findall(text):
                    target = include.split("/")[0]
                    if "/" in include and target in FLOOR and (root / include).exists():
                        targets.append(target)
                    else:
                        found.append(f'{path.relative_to(root)}: "{include}" is no ROOM/file of the house')
            for target in targets:
                if target != room and FLOOR[target] >= floor:
                    found.append(f"{path.relative_to(root)}: {room} stands beside or below {target}")
    return found


class Floors(unittest.TestCase):
    root = None

    def test_no_room_reaches_up_or_sideways(self):
        self.assertEqual(climbs(self.root), [])
        self.assertTrue((self.root / "base/error.h").exists())

    def test_a_build_without_dicom_refuses_each_of_its_commands(self):
        commands = re.findall(r"su_cmd_dicom_[a-z]+", (self.root / "cli/commands.def").read_text())
        self.assertEqual(commands, re.findall(r"su_cmd_dicom_[a-z]+", (self.root / "cli/dicom/none.c").read_text()))
        self.assertTrue(commands)

    def test_a_climb_is_found(self):
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for room in FLOOR:
                (root / room).mkdir()
                (root / room / "it.h").write_text("")
            (root / "base/a.c").write_text('#include "base/it.h"\n#include <nn/it.h>\n')
            (root / "align/a.c").write_text('#include "nn/it.h"\n#include "base/it.h"\n')
            (root / "align/CMakeLists.txt").write_text("su_room(align SOURCES a.c NEEDS su_nn su_base)\n")
            self.assertEqual(climbs(root), [])
            (root / "base/b.c").write_text('  #  include "nn/it.h"\n')
            (root / "nn/b.h").write_text('#include "eval/it.h"\n')
            (root / "text/b.c").write_text('#include "it.h"\n')
            (root / "datasets/CMakeLists.txt").write_text("su_room(datasets SOURCES a.c NEEDS su_align)\n")
            self.assertEqual(
                climbs(root),
                [
                    "base/b.c: base stands beside or below nn",
                    'text/b.c: "it.h" is no ROOM/file of the house',
                    "nn/b.h: nn stands beside or below eval",
                    "datasets/CMakeLists.txt: datasets stands beside or below align",
                ],
            )


if __name__ == "__main__":
    Floors.root = pathlib.Path(sys.argv.pop(1))
    unittest.main()
