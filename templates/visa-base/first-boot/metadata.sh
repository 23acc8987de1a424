# shellcheck shell=bash disable=SC2034 # the variables are for the scripts that source this
# What the cloud says about this instance, and how it is judged. Sourced by setup-owner, wait-for-owner and CUPS's
# backend for VISA.
#
# VISA_ROOT is put before every path: empty on an instance, a private folder in tests.

export LC_ALL=C # so that [a-z] means ASCII

instance_data=${VISA_ROOT:-}/run/cloud-init/instance-data.json
instance_env=${VISA_ROOT:-}/run/visa/instance.env

# journald reads the priority from <N>; see sd-daemon(3).
log_info() { printf '<6>%s\n' "$*" >&2; }
log_error() { printf '<3>%s\n' "$*" >&2; }

# Sets metadata_owner, metadata_id, metadata_key and metadata_uuid; empty if absent. One jq instead of one `cloud-init query` a key,
# which starts Python each time. ConfigDrive, OpenStack and NoCloud give VISA's keys below `meta`; a NoCloud seed
# written by hand may have them at the top. The server's UUID is what `cloud-init query ds.meta_data.instance-id` says.
# Whatever their type, they become text; NUL separates them.
read_metadata() {
    local values
    mapfile -d '' -t values < <(jq --join-output '
        ((.ds.meta_data? | objects) // {}) as $data
        | (("owner", "id", "pamPublicKey") as $key | $data.meta[$key]? // $data[$key]? // ""),
            ($data["instance-id"]? // $data.uuid? // "")
        | tostring | explode | map(select(. != 0)) | implode + "\u0000"' "$instance_data")
    metadata_owner=${values[0]:-}
    metadata_id=${values[1]:-}
    metadata_key=${values[2]:-}
    metadata_uuid=${values[3]:-}
}

# A login name that is safe in a shell, a path and a token: at most 32 letters, digits, and `_`, `.`, `-` (not first),
# not of digits and dots alone, because getent, chown and id would take digits for a uid.
is_login_name() {
    [[ $1 =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$ && $1 == *[A-Za-z_]* ]]
}

# VISA numbers its instances; its proxy knows /jupyter/DIGITS only.
is_instance_id() {
    [[ $1 =~ ^[0-9]{1,19}$ ]]
}

# A UUID, or what a NoCloud seed has in its place: safe in a header and a shell.
is_server_uuid() {
    [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$ ]]
}

# The account as a line of passwd(5), from whatever NSS asks; status 1 if there is none.
account() {
    getent passwd -- "$1"
}

# Below 1000 are the accounts of the system, 65534 is nobody.
is_person() {
    (($1 >= 1000 && $1 != 65534))
}

# Until `condition…` holds: asks again after 1, 2, 3, 4, then every 5 seconds.
wait_until() {
    local pause=1
    until "$@"; do
        sleep "$pause"
        pause=$((pause < 5 ? pause + 1 : 5))
    done
}
