#!/usr/bin/env bash
# Builds the API server and the controller manager of Kubernetes 1.20 from Debian's own source
# package, once: `tests/kubernetes/build.sh` prints the directory of the two programs. They are kept
# outside of the checkout, under the hash of this file. Debian packages no server of Kubernetes.
#
# Needs the Debian packages golang-go, golang-github-modern-go-reflect2-dev and ca-certificates;
# takes some minutes and 2 GB while it builds, 200 MB afterwards.
set -euo pipefail

VERSION=1.20.2
PROGRAMS="kube-apiserver kube-controller-manager"

own_hash=$(sha256sum "$0" | cut -c1-16)
# shellcheck source=tests/cache.sh
. "$(dirname "$0")/../cache.sh"
place=$HOLDFAST_TEST_CACHE/kubernetes-$own_hash
complete() {
    for program in $PROGRAMS; do [ -x "$place/$program" ] || return 1; done
}
if complete; then
    echo "$place"
    exit 0
fi

say() { echo "kubernetes $VERSION: $*, after $SECONDS s" >&2; }
mkdir -p "$place"
exec 9>"$place/lock"
flock 9
if complete; then
    echo "$place"
    exit 0
fi
work=$(mktemp -d "$place/work.XXXXXX")
# Go makes the files of its caches read-only.
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
cd "$work"

# Sources come from wherever this machine's packages come from.
mkdir -p apt/lists/partial
if [ -f /etc/apt/sources.list.d/debian.sources ]; then
    sed 's/^Types:.*/Types: deb-src/' /etc/apt/sources.list.d/debian.sources >apt/list.sources
    list=apt/list.sources
else
    sed -n 's/^deb /deb-src /p' /etc/apt/sources.list >apt/list.list
    list=apt/list.list
fi
cat >apt/conf <<CONF
Dir::Etc::sourcelist "$work/$list";
Dir::Etc::sourceparts "-";
Dir::State::lists "$work/apt/lists";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
APT::Sandbox::User "root";
CONF
export APT_CONFIG=$work/apt/conf
apt-get update -qq >&2
apt-get source -qq --download-only kubernetes >&2
unset APT_CONFIG
say "fetched"
tar xf kubernetes_*.orig.tar.gz
mkdir -p go/src/k8s.io
ln -s "$work/kubernetes-$VERSION" go/src/k8s.io/kubernetes

# The reflect2 that it brings along panics with Go 1.18 and newer; Debian's does not.
reflect=kubernetes-$VERSION/vendor/github.com/modern-go/reflect2
rm -f "$reflect"/*.go "$reflect"/*.s
cp /usr/share/gocode/src/github.com/modern-go/reflect2/*.go \
    /usr/share/gocode/src/github.com/modern-go/reflect2/*.s "$reflect"

export GOPATH=$work/go GOCACHE=$work/cache GO111MODULE=off CGO_ENABLED=0 GOFLAGS=
cd go/src/k8s.io/kubernetes
vendored=k8s.io/kubernetes/vendor/k8s.io

# Its API descriptions are generated, and not part of the source package.
go build -o "$work/openapi-gen" $vendored/kube-openapi/cmd/openapi-gen
described=$(find -L pkg plugin cmd vendor/k8s.io -name '*.go' |
    grep -v -E '^vendor/k8s.io/(code-generator|sample-apiserver)/|/testdata/' |
    xargs grep -l '+k8s:openapi-gen=' | xargs -n1 dirname | LC_ALL=C sort -u |
    sed 's#^#k8s.io/kubernetes/#' | paste -sd,)
"$work/openapi-gen" --logtostderr -i "$described" -p k8s.io/kubernetes/pkg/generated/openapi \
    -O zz_generated.openapi -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt \
    -r "$work/violations" 2>/dev/null
say "described"

flags="-s -w"
for package in component-base/version client-go/pkg/version; do
    flags="$flags -X $vendored/$package.gitVersion=v$VERSION"
    flags="$flags -X $vendored/$package.gitMajor=1 -X $vendored/$package.gitMinor=20"
done
for program in $PROGRAMS; do
    go build -p 2 -ldflags "$flags" -o "$work/$program" "k8s.io/kubernetes/cmd/$program"
    say "built $program"
done
for program in $PROGRAMS; do mv "$work/$program" "$place/$program"; done
echo "$place"
