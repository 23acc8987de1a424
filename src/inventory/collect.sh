#!/bin/sh
# Lists what is installed in a guest: packages of dpkg or rpm, Python distributions, npm packages. Run by visabuild as
# root over SSH, from standard input; an argument is a folder that stands for `/`. It only reads. Lines of fields
# separated by tabs, which `read.rs` reads:
#   deb STATUS NAME VERSION ARCHITECTURE SOURCE SOURCE-VERSION MAINTAINER HOMEPAGE
#   rpm installed NAME VERSION ARCHITECTURE SOURCE VENDOR HOMEPAGE LICENSE
#   python PATH, of its metadata, then its fields:  f NAME VALUE
#   npm PATH, of its package.json, then that:       j TEXT
#   owner PACKAGE PATH    that file came with that package of dpkg or rpm
#   cut                   there is more than is listed
# Exit 1: dpkg or rpm cannot say what is installed. Whatever else cannot be read is left out.
set -u
LC_ALL=C
export LC_ALL

# Not `root`, which awk must get by the environment: -v takes backslashes for escapes.
VISABUILD_ROOT=${1-}
export VISABUILD_ROOT

# Most that is listed of Python, npm and owners, bytes.
MOST=33554432

# Of a merged /usr the lists have the paths as the packages name them; metadata lies below /usr in any case.
OWNED='/METADATA$|/PKG-INFO$|\.egg-info$|/node_modules/.*package\.json$'

has_dpkg() {
    [ -s "$VISABUILD_ROOT/var/lib/dpkg/status" ] && command -v dpkg-query >/dev/null
}

# Asked without a database, rpm makes one.
has_rpm() {
    command -v rpm >/dev/null &&
        { [ -d "$VISABUILD_ROOT/var/lib/rpm" ] || [ -d "$VISABUILD_ROOT/usr/lib/sysimage/rpm" ]; }
}

system_packages() {
    if has_dpkg; then
        dpkg-query --admindir="$VISABUILD_ROOT/var/lib/dpkg" -W -f \
            'deb\t${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\t${Maintainer}\t${Homepage}\n'
    elif has_rpm; then
        rpm ${VISABUILD_ROOT:+--root "$VISABUILD_ROOT"} -qa --queryformat \
            'rpm\tinstalled\t%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{ARCH}\t%{SOURCERPM}\t%{VENDOR}\t%{URL}\t%{LICENSE}\n'
    fi
}

owners() {
    if has_dpkg; then
        find "$VISABUILD_ROOT/var/lib/dpkg/info" -name '*.list' -exec grep -HE "$OWNED" {} + |
            sed -n 's|^.*/var/lib/dpkg/info/\(.*\)\.list:/|owner\t\1\t/|p'
    elif has_rpm; then
        rpm ${VISABUILD_ROOT:+--root "$VISABUILD_ROOT"} -qa --queryformat '[owner\t%{=NAME}\t%{FILENAMES}\n]' |
            grep -E "$OWNED"
    fi
}

# Folders to look through: the root, and what lies on a file system of its own.
folders() {
    printf '%s\n' "$VISABUILD_ROOT/"
    for folder in /usr /usr/local /opt /srv /home /root /var /var/lib; do
        if [ -d "$VISABUILD_ROOT$folder" ] && [ ! -h "$VISABUILD_ROOT$folder" ] &&
            [ "$(stat -c %d "$VISABUILD_ROOT$folder")" != "$(stat -c %d "$VISABUILD_ROOT$folder/..")" ]; then
            printf '%s\n' "$VISABUILD_ROOT$folder"
        fi
    done
}

# Temporary files and caches go with the seal, or are no installation; JupyterLab's staging is what its pages are made
# of, and not what runs.
metadata() {
    find "$1" -xdev \( \
        -path "$VISABUILD_ROOT/proc" -o -path "$VISABUILD_ROOT/sys" -o -path "$VISABUILD_ROOT/dev" -o \
        -path "$VISABUILD_ROOT/run" -o -path "$VISABUILD_ROOT/tmp" -o -path "$VISABUILD_ROOT/boot" -o \
        -path "$VISABUILD_ROOT/var/tmp" -o -path "$VISABUILD_ROOT/var/cache" -o \
        -path "$VISABUILD_ROOT/usr/share/doc" -o -path "$VISABUILD_ROOT/usr/share/locale" -o \
        -path "$VISABUILD_ROOT/usr/lib/modules" -o -name .cache -o -path '*/lab/staging/node_modules' -o \
        -path '*/jupyterlab/staging/node_modules' \) -prune -o \
        -type f \( \( -size -8388608c \
        \( -path '*.dist-info/METADATA' -o -path '*.egg-info/PKG-INFO' -o -path '*.egg/EGG-INFO/PKG-INFO' -o \
        -name '*.egg-info' \) \) -o \( -size -65537c -path '*/node_modules/*/package.json' \) \) \
        -exec awk '
            # What is shown of a text: control characters would end a line or a field.
            function plain(text) {
                gsub(/[\001-\037\177]/, " ", text)
                return text
            }
            FNR == 1 {
                path = plain(substr(FILENAME, length(ENVIRON["VISABUILD_ROOT"]) + 1))
                is_npm = path ~ /\/package\.json$/
                is_done = is_npm && path !~ /\/node_modules\/(@[^\/]*\/)?[^\/]*\/package\.json$/
                if (!is_done) print (is_npm ? "npm" : "python") "\t" path
            }
            is_done { nextfile; next }
            is_npm {
                text = plain($0)
                for (at = 1; at <= length(text); at += 8000) print "j\t" substr(text, at, 8000)
                next
            }
            # The header ends where the description begins.
            /^\r?$/ || FNR > 5000 { is_done = 1; nextfile; next }
            /^(Name|Version|License|License-Expression):/ || /^Classifier: *License ::/ {
                name = substr($0, 1, index($0, ":") - 1)
                print "f\t" name "\t" plain(substr($0, length(name) + 2, 400))
            }
        ' {} + 2>/dev/null
}

main() {
    system_packages || return 1
    {
        owners
        folders | while IFS= read -r folder; do metadata "$folder"; done
    } 2>/dev/null | awk -v most="$MOST" '{ size += length($0) + 1; if (size > most) { print "cut"; exit }; print }'
    return 0
}

# All of this text is read before anything else can read from standard input.
main </dev/null
