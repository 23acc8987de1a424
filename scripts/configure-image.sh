#!/bin/bash
# Sets, on the overlay that becomes the image, what the image uses at run time, apart from what the
# build used: proxy, APT mirror, pip index. Credentials of the build are taken out everywhere.
# Removes the keys that each instance must make for itself, and writes /etc/visa-release.
#
# An empty value leaves a setting as the build made it; "none" switches it off.
#   IMAGE_PROXY, IMAGE_NO_PROXY      proxy URL, and the hosts that are reached without it
#   IMAGE_MIRROR                     APT archive in place of MIRROR, the build's
#   IMAGE_SECURITY_MIRROR            the same in place of SECURITY_MIRROR
#   IMAGE_PIP_INDEX                  pip index; empty: the build host's (VISABUILD_PIP_INDEX where PIP_INDEX_URL is the
#                                    build's own package cache, else PIP_INDEX_URL)
#   TEMPLATE, IMAGE_VERSION          what /etc/visa-release calls the image
#   GUACD_METHOD                     how guacd was installed
set -euo pipefail

# Takes "user:password@" out of a URL; leaves "none" alone.
without_credentials() {
    sed -E 's#^([a-z][a-z0-9+.-]*://)[^/@]*@#\1#' <<<"$1"
}

# Replaces the lines of /etc/environment that set a variable, in either case.
set_environment() {
    local name=$1 value=$2 upper
    upper=${name^^}
    touch /etc/environment
    sed -i -E "/^($name|$upper)=/d" /etc/environment
    if [[ -n $value ]]; then
        printf '%s=%s\n%s=%s\n' "$name" "$value" "$upper" "$value" >>/etc/environment
    fi
}

configure_proxy() {
    local proxy no_proxy
    proxy=$(without_credentials "${IMAGE_PROXY:-}")
    no_proxy=${IMAGE_NO_PROXY:-}
    if [[ -z $proxy ]]; then
        return
    fi
    rm -f /etc/apt/apt.conf.d/80visa-proxy
    if [[ $proxy == none ]]; then
        proxy='' no_proxy=''
    else
        # Programs of a session talk to Jupyter on this machine.
        if [[ $no_proxy == none ]]; then
            no_proxy=''
        fi
        no_proxy="localhost,127.0.0.1,::1${no_proxy:+,$no_proxy}"
        printf 'Acquire::http::Proxy "%s";\nAcquire::https::Proxy "%s";\n' "$proxy" "$proxy" \
            >/etc/apt/apt.conf.d/80visa-proxy
    fi
    set_environment http_proxy "$proxy"
    set_environment https_proxy "$proxy"
    set_environment no_proxy "$no_proxy"
}

# Replaces one archive's address in all APT sources.
replace_archive() {
    local old new=$2
    old=$(without_credentials "$1")
    if [[ -z $old || -z $new || $new == none ]]; then
        return
    fi
    OLD=${old%/} NEW=${new%/} perl -pi -e 's{(^|\s)\Q$ENV{OLD}\E/?(?=\s|$)}{$1$ENV{NEW}}g' "${sources[@]}"
}

configure_apt() {
    local -a sources
    mapfile -t sources < <(find /etc/apt/sources.list /etc/apt/sources.list.d -type f 2>/dev/null)
    rm -f /etc/apt/auth.conf /etc/apt/auth.conf.d/*
    if [[ ${#sources[@]} -eq 0 ]]; then
        return
    fi
    sed -i -E 's#([a-z][a-z0-9+.-]*://)[^/@ ]*@#\1#g' "${sources[@]}"
    replace_archive "${MIRROR:-}" "${IMAGE_MIRROR:-}"
    replace_archive "${SECURITY_MIRROR:-}" "${IMAGE_SECURITY_MIRROR:-}"
}

configure_pip() {
    local index
    index=$(without_credentials "${IMAGE_PIP_INDEX:-${VISABUILD_PIP_INDEX-${PIP_INDEX_URL:-}}}")
    case $index in
    '') ;;
    none) rm -f /etc/pip.conf ;;
    *) printf '[global]\nindex-url = %s\n' "$index" >/etc/pip.conf ;;
    esac
}

# The same key in every instance of an image would be no secret; xrdp's unit makes it anew.
remove_shared_keys() {
    rm -f /etc/xrdp/cert.pem /etc/xrdp/key.pem /etc/xrdp/rsakeys.ini \
        /etc/ssl/certs/ssl-cert-snakeoil.pem /etc/ssl/private/ssl-cert-snakeoil.key
}

write_release() {
    local package
    {
        printf 'VISA_TEMPLATE="%s"\n' "${TEMPLATE:-unknown}"
        printf 'VISA_IMAGE_VERSION="%s"\n' "${IMAGE_VERSION:-unknown}"
        printf 'VISA_BUILD_DATE="%s"\n' "$(date --utc +%Y-%m-%d)"
        printf 'VISA_DEBIAN_VERSION="%s"\n' "$(cat /etc/debian_version)"
        printf 'VISA_GUACD_METHOD="%s"\n' "${GUACD_METHOD:-unknown}"
        printf 'VISA_GUACD_VERSION="%s"\n' "$(/usr/sbin/guacd -v 2>&1 | sed -n 's/.*version //p')"
        for package in xrdp xorgxrdp xfce4-session; do
            printf 'VISA_%s_VERSION="%s"\n' "$(tr 'a-z-' 'A-Z_' <<<"$package")" \
                "$(dpkg-query -W -f '${Version}' "$package" 2>/dev/null || true)"
        done
        # Present in templates with Jupyter only.
        for package in /opt/visa/jupyter/lib/python3*/site-packages/jupyterlab-*.dist-info; do
            if [[ -d $package ]]; then
                package=${package##*/jupyterlab-}
                printf 'VISA_JUPYTERLAB_VERSION="%s"\n' "${package%.dist-info}"
            fi
        done
    } >/etc/visa-release
    chmod 0644 /etc/visa-release
    cat /etc/visa-release
}

configure_proxy
configure_apt
configure_pip
remove_shared_keys
write_release
