"""The installed tree: moved to another folder the program works, and a program of somebody else finds and uses the library.

    test_library.py SUTURE
"""
import os
import shutil
import subprocess
import unittest

from common import ENVIRONMENT, SUTURE, Case, encode, main, make_source, picture, read, write

import numpy

EXAMPLE = os.path.join(os.path.dirname(__file__), "../../docs/examples/nearest.c")


class Library(Case):
    def test_moved_anywhere(self):
        subprocess.run(["cmake", "--install", os.path.dirname(SUTURE), "--prefix", self.path("first"), "--component", "Unspecified"],
                       check=True, capture_output=True)
        prefix = self.path("second/place")
        os.makedirs(os.path.dirname(prefix))
        os.rename(self.path("first"), prefix)
        program = os.path.join(prefix, "bin/suture")
        data, run = self.path("data"), self.path("run")
        make_source(self.path("source"), 48)
        self.suture("data", "import", "csv", self.path("source/pairs.csv"), "--out", data, "--size", 32, "--quiet")
        self.make_run(data, run, "--quiet")

        def ran(words, **options):
            return subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT | options)

        done = ran([program, "doctor"])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Everything that Suture needs is here", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^DICOM +(decoders run in processes|not in this build)")  # libexec is found

        flags = ran(["pkg-config", "--cflags", "--libs", "suture"], PKG_CONFIG_PATH=os.path.join(prefix, "lib/pkgconfig"))
        self.assertEqual(flags.returncode, 0, flags.stderr)
        sanitizers = ["-fsanitize=address,undefined"] if b"__asan_init" in read(SUTURE) else []
        done = ran(["cc", "-Wall", "-Wextra", "-Werror", *sanitizers, EXAMPLE, "-o", self.path("nearest"), *flags.stdout.split(),
                    f"-Wl,-rpath,{prefix}/lib"])
        self.assertEqual(done.returncode, 0, done.stderr)

        rng = numpy.random.default_rng(1)
        pictures = [write(self.path(f"{i}.png"), encode(picture(rng))) for i in range(3)]
        bad = write(self.path("bad.png"), "text")
        done = ran([self.path("nearest"), run, "a sentence", pictures[0], bad, *pictures[1:]])
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(bad, done.stderr)
        self.assertEqual([line.split()[1] for line in done.stdout.splitlines()], pictures)

        # The same numbers as the command's.
        self.suture("embed", "--model", run, "--images", *pictures, "--out", self.path("i.safetensors"), "--quiet")
        write(self.path("s.txt"), "a sentence\n")
        self.suture("embed", "--model", run, "--text", self.path("s.txt"), "--out", self.path("t.safetensors"), "--quiet")

        def rows(path):
            data = read(path)
            begin = 8 + int.from_bytes(data[:8], "little")
            return numpy.frombuffer(data[begin:], "<f4").reshape(-1, 16)
        cosines = rows(self.path("i.safetensors")) @ rows(self.path("t.safetensors"))[0]
        self.assertLess(numpy.abs(cosines - [float(line.split()[0]) for line in done.stdout.splitlines()]).max(), 6e-4)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.path("second"), ignore_errors=True)
        super().tearDownClass()


if __name__ == "__main__":
    main()
