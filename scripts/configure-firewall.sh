#!/bin/bash
# Admits only some addresses to the ports that VISA uses: three that have no authentication of their own beyond
# VISA's, and those of the packages visa-files and visa-print. Off by default: a site's security groups usually do this.
#
#   ALLOWED_SOURCES   addresses and networks (IPv4, IPv6), separated by commas or white space; empty: no firewall
set -euo pipefail

fail() {
    echo "configure-firewall: $*" >&2
    exit 1
}

# One nftables set of all addresses of a family; no element line when there is none.
address_set() {
    local name=$1 type=$2
    shift 2
    echo "    set $name {"
    echo "        type $type"
    echo "        flags interval"
    echo "        auto-merge"
    if [[ $# -gt 0 ]]; then
        local IFS=,
        echo "        elements = { $* }"
    fi
    echo "    }"
}

read -r -d '' -a sources <<<"${ALLOWED_SOURCES//,/ }" || true
if [[ ${#sources[@]} -eq 0 ]]; then
    systemctl disable nftables.service
    echo "No firewall: allowed_sources is empty."
    exit 0
fi

ipv4=()
ipv6=()
for source in "${sources[@]}"; do
    python3 -c 'import ipaddress, sys; ipaddress.ip_network(sys.argv[1], strict=False)' "$source" 2>/dev/null ||
        fail "'$source' in allowed_sources is neither an address nor a network"
    if [[ $source == *:* ]]; then
        ipv6+=("$source")
    else
        ipv4+=("$source")
    fi
done

{
    cat <<'END'
#!/usr/sbin/nft -f
# Made by configure-firewall.sh from allowed_sources.
flush ruleset

table inet visa {
END
    address_set allowed4 ipv4_addr "${ipv4[@]}"
    address_set allowed6 ipv6_addr "${ipv6[@]}"
    cat <<'END'

    chain input {
        type filter hook input priority filter; policy accept;
        # guacd reaches this machine's own RDP port by the machine's outside address: that goes over lo.
        iifname "lo" accept
        tcp dport { 3389, 4822, 8888, 8090, 8091 } jump visa_ports
    }

    chain visa_ports {
        ip saddr @allowed4 accept
        ip6 saddr @allowed6 accept
        reject with tcp reset
    }
}
END
} >/etc/nftables.conf

nft --check --file /etc/nftables.conf || fail "nftables refuses the rules above"
systemctl enable nftables.service
