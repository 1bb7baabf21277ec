//go:build deploy

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// boot starts a systemd in namespaces of its own, on a root that is this machine's with an
// overlay in memory, so that nothing that it does is seen outside. Its one job is
// /mnt/inside.sh, in the folder that the test gives.
const boot = `set -eu
folder=$1
mount --make-rprivate /
mount -t tmpfs tmpfs "$folder/overlay"
mkdir "$folder/overlay/upper" "$folder/overlay/work" "$folder/overlay/root"
root=$folder/overlay/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/overlay/upper,workdir=$folder/overlay/work" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/dev"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
for device in null zero full random urandom tty; do
	touch "$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir -p "$root/dev/shm" "$root/dev/pts" "$root/dev/mqueue" "$root/dev/hugepages" "$root/mnt"
mount -t devpts devpts "$root/dev/pts" -o newinstance,ptmxmode=0666
mount -t tmpfs tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
mount --bind "$folder" "$root/mnt"

units=$root/etc/systemd/system
mkdir -p "$units"
# What is this machine's: the kernel's settings, its modules, its file systems and its network.
for unit in systemd-sysctl.service systemd-modules-load.service systemd-udevd.service systemd-networkd.service \
	systemd-resolved.service systemd-sysusers.service sys-kernel-debug.mount sys-kernel-tracing.mount \
	sys-fs-fuse-connections.mount dev-hugepages.mount; do
	ln -sf /dev/null "$units/$unit"
done
printf '[Unit]\nWants=inside.service\n' >"$units/inside.target"
printf '[Service]\nType=oneshot\nExecStart=/bin/sh -c "sh -eux /mnt/inside.sh >/mnt/inside.log 2>&1 && touch /mnt/done"\nExecStopPost=/bin/systemctl exit 0\n' >"$units/inside.service"

cd "$root"
mkdir -p before
pivot_root . before
umount -l /before
mount --make-rshared / # so that the credentials and folders of units reach them
exec env -i container=other PATH="$PATH" /lib/systemd/systemd --unit=inside.target systemd.legacy_systemd_cgroup_controller=1
`

// TestUnit has a systemd run the unit, as docs/operate/README.md installs it, and rotates
// its key by reloads.
func TestUnit(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a systemd is started by root alone")
	}
	if said, err := exec.CommandContext(t.Context(), "unshare", "--mount", "--pid", "--fork", "--cgroup", "--net", "true").CombinedOutput(); err != nil {
		t.Skipf("no namespaces can be made here: %v %s", err, said)
	}
	binary := built(t)
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operate", "README.md"))
	must(t, err)
	page := string(text)
	_, rotate, found := strings.Cut(page, "## Rotate the key")
	if !found {
		t.Fatal("nothing about the key")
	}
	commands := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(rotate, 2)
	first := block(t, page, "yaml unit")
	second := strings.Replace(strings.ReplaceAll(keyEntry(t, first), ".pem", "-2.pem"), "k1", "k2", 1)

	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "overlay"), 0o750))
	for name, content := range map[string]string{
		"boot.sh":     boot,
		"one.yaml":    first,
		"two.yaml":    strings.Replace(first, keyEntry(t, first), keyEntry(t, first)+second, 1),
		"second.yaml": strings.Replace(first, keyEntry(t, first), second+keyEntry(t, first), 1),
		"last.yaml":   strings.Replace(first, keyEntry(t, first), second, 1),
		"inside.sh": `trap 'journalctl -u stagedoor -o cat' EXIT
cd /mnt
cp one.yaml stagedoor.yaml
` + block(t, page, "sh unit") + `
export STAGEDOOR=http://127.0.0.1:7008
keys() { ` + strings.TrimSpace(commands[1][1]) + ` | grep -o '"kid":"[^"]*"'; }
said() { journalctl -u stagedoor -o cat | grep -c 'the configuration' || true; }
reload() {
	install -m 640 -g stagedoor "/mnt/$1.yaml" /etc/stagedoor/stagedoor.yaml
	before=$(said)
	systemctl reload stagedoor
	for i in $(seq 100); do
		[ "$(said)" = "$before" ] || break
		sleep 0.1
	done
}
one=$(systemctl show -p MainPID stagedoor)
keys >/mnt/keys.one
cd /etc/stagedoor
` + commands[0][1] + `
reload two # what the group may not read is refused
keys >/mnt/keys.refused
systemctl show -p StatusText stagedoor >/mnt/status.refused
journalctl -u stagedoor -o cat | grep 'is refused' >/mnt/log.refused
` + block(t, rotate, "sh rights") + `
for step in two second last; do
	reload $step
	keys >/mnt/keys.$step
done
systemctl show -p StatusText stagedoor >/mnt/status.last
[ "$one" = "$(systemctl show -p MainPID stagedoor)" ]
systemctl stop stagedoor
systemctl start stagedoor # and the next start finds what the last reload left
curl -sS --retry 60 --retry-delay 1 --retry-connrefused http://127.0.0.1:7009/ready
`,
	} {
		writeConfig(t, filepath.Join(dir, name), content)
	}

	must(t, os.Mkdir(filepath.Join(dir, "dist"), 0o750))
	must(t, os.CopyFS(filepath.Join(dir, "deploy"), os.DirFS(filepath.Join("..", "..", "deploy"))))
	program, err := os.ReadFile(binary)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "dist", "stagedoor-linux-amd64"), program, 0o700))

	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--net",
		"--cgroup", "sh", filepath.Join(dir, "boot.sh"), dir)
	said, err := command.CombinedOutput()
	log, _ := os.ReadFile(filepath.Join(dir, "inside.log"))
	if _, missing := os.Stat(filepath.Join(dir, "done")); missing != nil {
		t.Fatalf("%v\n%s\n%s", err, said, log)
	}
	for name, want := range map[string]string{
		"keys.one":       `"kid":"k1"`,
		"keys.refused":   `"kid":"k1"`,
		"log.refused":    "permission denied",
		"status.refused": "StatusText=the configuration is refused, and the old one goes on: configuration: backend.auth",
		"status.last":    "StatusText=the configuration was read anew\n",
		"keys.two":       "\"kid\":\"k1\"\n\"kid\":\"k2\"",
		"keys.second":    "\"kid\":\"k2\"\n\"kid\":\"k1\"",
		"keys.last":      `"kid":"k2"`,
	} {
		got, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		if !strings.Contains(string(got), want) || strings.HasPrefix(name, "keys") && strings.TrimSpace(string(got)) != want {
			t.Errorf("%s: %s, want %s\n%s", name, got, want, log)
		}
	}
}

// keyEntry is the line of the configuration that names the key.
func keyEntry(t *testing.T, configuration string) string {
	t.Helper()
	for line := range strings.Lines(configuration) {
		if strings.Contains(line, "keyId") {
			return line
		}
	}
	t.Fatal("no key")
	return ""
}
