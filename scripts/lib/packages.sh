# Makes sure that the Debian packages a script needs are there. Sourced, not run.
# shellcheck shell=bash

# Looks for the package's files and does not ask dpkg, so that a tool from elsewhere counts as well.
has_package() {
    case $1 in
        amqp-tools) command -v amqp-declare-queue ;;
        gcc) command -v cc ;;
        libc6-dev) [[ -e /usr/include/stdio.h ]] ;;
        prometheus) command -v promtool ;;
        rabbitmq-server) [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] ;;
        *) command -v "$1" ;;
    esac >/dev/null
}

# Installs the missing ones of these packages. If it may not, it says what to do and fails.
ensure_packages() {
    local package missing=() as_root=()
    for package in "$@"; do
        has_package "$package" || missing+=("$package")
    done
    ((${#missing[@]} > 0)) || return 0

    local installer
    installer=$(dirname -- "${BASH_SOURCE[0]}")/install-packages
    if ((EUID != 0)); then
        as_root=(sudo)
        # Where nobody can type a password, sudo must do without or fail at once.
        [[ -t 0 ]] || as_root=(sudo -n)
    fi
    if ! command -v apt-get >/dev/null; then
        printf 'Missing: what Debian calls %s. This machine has no apt-get: install it by its own means.\n' \
            "${missing[*]}" >&2
        return 1
    fi
    if ((EUID == 0)) || command -v sudo >/dev/null; then
        printf 'Installing %s (no service is started)\n' "${missing[*]}" >&2
        if "${as_root[@]}" "$installer" "${missing[@]}"; then return 0; fi
    fi
    printf 'These Debian packages are missing: %s. As root, run:\n\n    %q %s\n\n' \
        "${missing[*]}" "$(realpath -- "$installer")" "${missing[*]}" >&2
    return 1
}

# Installs the missing ones of these packages in the background, while the script continues. Follow
# it with await_packages. At most one installation at a time.
begin_packages() {
    local package missing=()
    for package in "$@"; do
        has_package "$package" || missing+=("$package")
    done
    installation=
    ((${#missing[@]} > 0)) || return 0
    # A job in the background cannot ask for a password. sudo asks here and remembers it.
    if ((EUID != 0)) && [[ -t 0 ]] && command -v sudo >/dev/null; then sudo -v || return 1; fi
    ensure_packages "${missing[@]}" </dev/null &
    installation=$!
}

# Waits for the installation that begin_packages started, if there is one. Its status is the
# installation's.
await_packages() {
    [[ -n ${installation-} ]] || return 0
    local job=$installation
    installation=
    wait "$job"
}

# rustup puts cargo where a shell that was open before does not look.
ensure_cargo() {
    if ! command -v cargo >/dev/null; then PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin; fi
    if ! command -v cargo >/dev/null; then
        printf 'Cargo is not in PATH. Install a Rust toolchain with rustup, then run this again.\n' >&2
        return 1
    fi
}

# Where cargo puts what it builds.
cargo_target() {
    cargo metadata --format-version 1 --no-deps --locked | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}
