#!/usr/bin/env python3
"""What debian-installer will ask a mirror for, and a cpio archive that makes up for what the mirror lacks.

    gap_filler.py components INITRD [options]           the udebs that anna will fetch, one a line
    gap_filler.py fill INITRD OUTPUT.cpio [options]     ... and the archive, to append to the initrd

INITRD is the netboot image's initrd.gz, or the package (.deb) that has it. The mirror is that of the host's APT
configuration. For tests only: a complete mirror has no gaps, and the archive is then empty but for its trailer.

A missing udeb of kernel modules is made of the modules of the same names in the ordinary kernel package; which
they are is told by the udeb of another kernel in the same index. Another missing udeb is made of the programs and
libraries of the ordinary package. All of them are marked as installed in the initrd's dpkg status.
"""
import argparse
import gzip
import io
import lzma
import os
import re
import stat
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request

STATUS = "var/lib/dpkg/status"
PRIORITIES = ["extra", "optional", "standard", "important", "required"]
# Programs that stand for a udeb: package, folder in the initrd, names. None: nothing of it is used.
PROGRAMS = {
    "e2fsprogs-udeb": ("e2fsprogs", "usr/sbin", ["mke2fs", "mkfs.ext2", "mkfs.ext3", "mkfs.ext4", "e2fsck", "fsck.ext2",
                                                 "fsck.ext3", "fsck.ext4", "tune2fs", "e2label", "resize2fs"]),
    "ntfs-3g-udeb": None,
}


# -- Debian's control files ------------------------------------------------------------------------

def paragraphs(text):
    for block in text.split("\n\n"):
        fields = {}
        for match in re.finditer(r"^([A-Za-z0-9-]+):[ \t]*(.*(?:\n[ \t].*)*)", block, re.M):
            fields[match[1]] = match[2]
        if "Package" in fields:
            yield fields


def names(field):
    """Names of a relation field: the first of alternatives, without versions."""
    return [re.split(r"[\s(:\[|]", item.strip())[0] for item in (field or "").split(",") if item.strip()]


def compare(a, operator, b):
    return subprocess.run(["dpkg", "--compare-versions", a, operator, b]).returncode == 0


# -- what anna asks for ----------------------------------------------------------------------------

class Anna:
    """anna.c of anna 1.99 and packages.c of libdebian-installer 0.125."""

    def __init__(self, index, status, kernel, chosen, standard, queue, exclude):
        # An index that names a package twice: the later replaces the earlier.
        self.packages = {fields["Package"]: fields for fields in index}
        self.status = {fields["Package"]: fields for fields in status}
        self.kernel, self.chosen, self.standard = kernel, chosen, standard
        self.queue, self.exclude = queue, exclude
        self.providers = {}
        for package in self.packages.values():
            for name in names(package.get("Provides")):
                self.providers.setdefault(name, []).append(package["Package"])
        self.want = {}

    def there(self, name):
        """Unpacked or installed, in whatever version: what satisfies a dependency."""
        words = self.status.get(name, {}).get("Status", "").split()
        return bool(words) and words[-1] in ("unpacked", "installed")

    def installed(self, name):
        """In this version or a later one: what is not fetched."""
        mine = self.status.get(name, {}).get("Version")
        return mine is not None and compare(self.packages[name]["Version"], "le", mine)

    def wrong_kernel(self, package):
        return package.get("Kernel-Version", self.kernel) != self.kernel

    def compute(self):
        """Names in the index's order: the order in which they are fetched."""
        for name, package in self.packages.items():
            if self.installed(name) or self.wrong_kernel(package):
                continue
            modules = "Kernel-Version" in package
            queued = name in self.queue or (modules and any(n in self.queue for n in names(package.get("Provides"))))
            standard = PRIORITIES.index(package.get("Priority", "extra")) >= PRIORITIES.index("standard")
            if (standard and (self.standard or modules)) or queued:
                self.want[name] = True
        for name in self.exclude:
            self.want.pop(name, None)
        self.mark()
        # strstr(): a name that is part of the answer is chosen, whatever stands around it. Of every kernel.
        for name in self.packages:
            if name in self.chosen:
                self.want[name] = True
        self.mark()
        return [name for name in self.packages if self.want.get(name) and not self.installed(name)]

    def mark(self):
        done = set()
        for name in self.packages:
            if self.want.get(name):
                self.follow(name, done)

    def follow(self, name, done):
        if name in done:
            return
        done.add(name)
        package = self.packages.get(name)
        if package is None:
            # A virtual package, or one that is nowhere, which anna forgives.
            best = self.best_provider(name)
            if best and not self.there(best):
                self.follow(best, done)
            return
        for dependency in names(package.get("Pre-Depends")) + names(package.get("Depends")):
            if not self.there(dependency):
                self.follow(dependency, done)
        self.want[name] = True

    def best_provider(self, name):
        best = None
        for candidate in self.providers.get(name, []):
            package = self.packages[candidate]
            if self.wrong_kernel(package):
                continue
            if best is None or self.better(candidate, best):
                best = candidate
        return best

    def better(self, a, b):
        priority = lambda name: PRIORITIES.index(self.packages[name].get("Priority", "extra"))
        return (priority(a) > priority(b) or (self.there(a) and not self.there(b))
                or bool(self.want.get(a) and not self.want.get(b)))


# -- archives --------------------------------------------------------------------------------------

def read_cpio(data):
    """(name, mode, content) of a newc archive; more archives may follow it."""
    position = 0
    while True:
        while data[position:position + 1] == b"\0":
            position += 1
        header = data[position:position + 110]
        if len(header) < 110 or header[:6] not in (b"070701", b"070702"):
            return
        field = lambda number: int(header[6 + 8 * number:14 + 8 * number], 16)
        size, length = field(6), field(11)
        name = data[position + 110:position + 110 + length - 1].decode()
        position = (position + 110 + length + 3) // 4 * 4
        content = data[position:position + size]
        position = (position + size + 3) // 4 * 4
        if name != "TRAILER!!!":
            yield name.removeprefix("./"), field(1), content


class Cpio:
    """A newc archive with the folders that its files need."""

    def __init__(self):
        self.entries = {}

    def add(self, path, content, mode=stat.S_IFREG | 0o644):
        parts = path.split("/")
        for end in range(1, len(parts)):
            self.entries.setdefault("/".join(parts[:end]), (stat.S_IFDIR | 0o755, b""))
        self.entries[path] = (mode, content)

    def bytes(self):
        out = io.BytesIO()
        for inode, (name, (mode, content)) in enumerate([*sorted(self.entries.items()), ("TRAILER!!!", (0, b""))], 1):
            fields = [inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
            out.write(b"070701" + "".join(f"{field:08x}" for field in fields).encode() + name.encode() + b"\0")
            out.write(b"\0" * (-out.tell() % 4) + content)
            out.write(b"\0" * (-out.tell() % 4))
        out.write(b"\0" * (-out.tell() % 512))
        return out.getvalue()


def deb_files(path):
    """name -> (tar member, content) of a package's regular files and links."""
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], check=True, stdout=subprocess.PIPE).stdout
    files = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for member in tar:
            name = member.name.removeprefix("./")
            if member.isfile():
                files[name] = (member, tar.extractfile(member).read())
            elif member.issym() or member.islnk():
                files[name] = (member, b"")
    return files


def read_initrd(path):
    data = open(path, "rb").read()
    if data[:7] == b"!<arch>":
        wanted = [name for name in deb_files(path) if name.endswith("/text/debian-installer/amd64/initrd.gz")]
        data = deb_files(path)[wanted[0]][1]
    return {name: (mode, content) for name, mode, content in read_cpio(gzip.decompress(data))}


# -- the mirror ------------------------------------------------------------------------------------

def host_mirror():
    """The first mirror of the distribution itself in the host's APT configuration."""
    lines = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
                            "Identifier: Packages"], check=True, text=True, stdout=subprocess.PIPE).stdout
    for line in lines.splitlines():
        uri, release, component = line.split()
        if component == "main" and "/" not in release and not re.search("security|backports|updates|proposed", release) \
                and uri.rstrip("/").endswith("/debian"):
            return uri.rstrip("/")
    sys.exit("APT's configuration names no Debian mirror; give --mirror")


class Mirror:
    def __init__(self, url):
        self.url = url
        self.folder = tempfile.TemporaryDirectory()

    def get(self, path):
        with urllib.request.urlopen(f"{self.url}/{path}") as answer:
            return answer.read()

    def has(self, path):
        try:
            urllib.request.urlopen(urllib.request.Request(f"{self.url}/{path}", method="HEAD")).close()
            return True
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return False
            raise

    def index(self, suite, part):
        return list(paragraphs(lzma.decompress(self.get(f"dists/{suite}/main/{part}binary-amd64/Packages.xz")).decode()))

    def deb(self, filename):
        path = os.path.join(self.folder.name, os.path.basename(filename))
        if not os.path.exists(path):
            data = self.get(filename)
            with open(path, "wb") as file:
                file.write(data)
        return deb_files(path)


# -- filling ---------------------------------------------------------------------------------------

class Filler:
    def __init__(self, mirror, suite, udebs, initrd, anna):
        self.mirror, self.initrd, self.anna, self.cpio = mirror, initrd, anna, Cpio()
        self.udebs = {fields["Package"]: fields for fields in udebs}
        self.debs = {fields["Package"]: fields for fields in mirror.index(suite, "")}
        self.soname = {name.rsplit("/", 1)[1] for name in initrd if ".so" in name.rsplit("/", 1)[-1]}
        self.status = []

    def fill(self, name):
        udeb = self.udebs[name]
        if "Kernel-Version" in udeb:
            self.modules(udeb)
        elif name in PROGRAMS:
            if PROGRAMS[name]:
                self.programs(*PROGRAMS[name])
        elif self.anna.there(name):
            pass  # an older one is in the initrd and serves
        elif name.removesuffix("-udeb") in self.debs:
            self.libraries(name.removesuffix("-udeb"))
        else:
            sys.exit(f"the mirror lacks {name}, and nothing is known to stand in for it")
        entry = {key: udeb[key] for key in ("Package", "Version", "Architecture", "Provides", "Depends") if key in udeb}
        entry["Status"] = "install ok installed"
        self.status.append(entry)

    def modules(self, udeb):
        kernel = udeb["Kernel-Version"]
        stem = udeb["Package"].removesuffix(f"-{kernel}-di")
        others = [fields for fields in self.udebs.values() if fields["Package"].startswith(stem + "-")
                  and fields.get("Kernel-Version", kernel) != kernel and self.mirror.has(fields["Filename"])]
        if not others:
            sys.exit(f"no other kernel's udeb tells what {udeb['Package']} holds")
        other = others[-1]
        old = other["Kernel-Version"]
        image = self.mirror.deb(self.debs[f"linux-image-{kernel}"]["Filename"])
        images = {name.split("/kernel/")[-1]: content for name, (_, content) in image.items() if "/kernel/" in name}
        for name in self.mirror.deb(other["Filename"]):
            path = name.split(f"modules/{old}/kernel/")[-1]
            if path != name and path in images:
                self.cpio.add(f"usr/lib/modules/{kernel}/kernel/{path}", images[path])

    def programs(self, package, folder, wanted):
        files = self.mirror.deb(self.debs[package]["Filename"])
        by_name = {name.rsplit("/", 1)[-1]: name for name in files if "/sbin/" in f"/{name}" or "/bin/" in f"/{name}"}
        for program in wanted:
            member, content = files[by_name[program]]
            if member.issym():
                self.cpio.add(f"{folder}/{program}", os.path.basename(member.linkname).encode(), stat.S_IFLNK | 0o777)
                continue
            if member.islnk():
                content = files[member.linkname.removeprefix("./")][1]
            self.cpio.add(f"{folder}/{program}", content, stat.S_IFREG | 0o755)
            self.needed(content, package)
        for name, (member, content) in files.items():
            if name.startswith("etc/") and member.isfile() and not name.startswith(("etc/cron", "etc/init")):
                self.cpio.add(name, content)

    def libraries(self, package):
        for name, (member, content) in self.mirror.deb(self.debs[package]["Filename"]).items():
            if re.search(r"/lib/.*\.so\.", f"/{name}") and member.isfile():
                self.library(name, content, package)

    def library(self, name, content, package):
        soname = elf_names(content, "SONAME") or [os.path.basename(name)]
        if soname[0] not in self.soname:
            self.soname.add(soname[0])
            self.cpio.add(f"usr/lib/x86_64-linux-gnu/{soname[0]}", content)
            self.needed(content, package)

    def needed(self, content, package):
        for soname in elf_names(content, "NEEDED"):
            if soname in self.soname:
                continue
            for dependency in [package, *self.closure(package)]:
                files = self.mirror.deb(self.debs[dependency]["Filename"])
                found = [(name, entry[1]) for name, entry in files.items()
                         if entry[0].isfile() and os.path.basename(name).startswith(soname)]
                if found:
                    self.library(*found[0], package)
                    break
            else:
                sys.exit(f"no dependency of {package} has {soname}")

    def closure(self, package, seen=None):
        seen = [] if seen is None else seen
        for name in names(self.debs[package].get("Pre-Depends")) + names(self.debs[package].get("Depends")):
            if name in self.debs and name not in seen and name != "libc6":
                seen.append(name)
                self.closure(name, seen)
        return seen

    def write_status(self):
        replaced = {entry["Package"] for entry in self.status}
        old = [block for block in self.initrd[STATUS][1].decode().split("\n\n")
               if block.strip() and re.search(r"^Package: (\S+)", block, re.M)[1] not in replaced]
        new = ["\n".join(f"{key}: {value}" for key, value in entry.items()) for entry in self.status]
        self.cpio.add(STATUS, ("\n\n".join(block.strip("\n") for block in old + new) + "\n\n").encode())


def elf_names(content, kind):
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        run = subprocess.run(["readelf", "-dW", file.name], text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return re.findall(rf"\({kind}\).*\[(.*)\]", run.stdout)


# -- command line ----------------------------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["components", "fill"])
    parser.add_argument("initrd")
    parser.add_argument("output", nargs="?")
    parser.add_argument("--mirror", help="instead of the one in the host's APT configuration")
    parser.add_argument("--suite", default="trixie")
    parser.add_argument("--choose", default="partman-auto, bootstrap-base, pkgsel, nobootloader, finish-install, eatmydata-udeb",
                        help="anna/choose_modules of the preseed file")
    parser.add_argument("--standard", action="store_true", help="anna/standard_modules is true")
    parser.add_argument("--queue", default="", help="names that start-up scripts give to anna-install")
    parser.add_argument("--exclude", default="firewire-core isofs jfs loop pata pcmcia-storage sata xfs",
                        help="kernel modules in /var/cache/anna/exclude")
    options = parser.parse_args()

    initrd = read_initrd(options.initrd)
    kernels = {match[1] for name in initrd if (match := re.match(r"(?:usr/)?lib/modules/([^/]+)/", name))}
    if len(kernels) != 1:
        sys.exit(f"{options.initrd} has no kernel modules, or those of several kernels")
    kernel = kernels.pop()
    mirror = Mirror((options.mirror or host_mirror()).rstrip("/"))
    udebs = mirror.index(options.suite, "debian-installer/")
    exclude = {f"{name}-modules-{kernel}-di" for name in options.exclude.split()}
    anna = Anna(udebs, paragraphs(initrd[STATUS][1].decode()), kernel, options.choose, options.standard,
                set(options.queue.split()), exclude)
    wanted = anna.compute()
    missing = [name for name in wanted if not mirror.has(anna.packages[name]["Filename"])]
    if options.command == "components":
        for name in wanted:
            print(name, anna.packages[name]["Version"], "missing" if name in missing else "", sep="\t")
        return
    filler = Filler(mirror, options.suite, udebs, initrd, anna)
    for name in missing:
        filler.fill(name)
    filler.write_status()
    with open(options.output, "wb") as file:
        file.write(filler.cpio.bytes())
    print(f"{len(wanted)} components, {len(missing)} missing on the mirror: {' '.join(missing)}", file=sys.stderr)


if __name__ == "__main__":
    main()
