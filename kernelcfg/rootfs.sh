# Makes a fresh Debian root in folder $1 the one that tests boot. mmdebstrap runs it with sh.
set -eu
root=$1

# root logs in without a password, on the serial console.
chroot "$root" passwd -d root >/dev/null

# Nothing of the machine that made it.
echo keel-debian >"$root/etc/hostname"
printf '127.0.0.1 localhost keel-debian\n' >"$root/etc/hosts"
: >"$root/etc/resolv.conf"
# Without an identity systemd takes the boot for the first one and asks questions.
echo 6b65656c6b65656c6b65656c6b65656c >"$root/etc/machine-id"

# The root is checked and mounted for writing as on any Debian.
echo 'LABEL=keel-root / ext4 errors=remount-ro 0 1' >"$root/etc/fstab"

# systemd starts a login on the console that the kernel names; this one says so
# even when the command line names another.
mkdir -p "$root/etc/systemd/system/getty.target.wants"
ln -sf /lib/systemd/system/serial-getty@.service "$root/etc/systemd/system/getty.target.wants/serial-getty@ttyS0.service"

# Jobs that would run at odd moments of a test.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer; do
	ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# Emulated guests are slow; the journal goes away with the guest.
mkdir -p "$root/etc/systemd/system.conf.d" "$root/etc/systemd/journald.conf.d"
printf '[Manager]\nDefaultTimeoutStartSec=600s\nDefaultDeviceTimeoutSec=600s\n' >"$root/etc/systemd/system.conf.d/keel.conf"
printf '[Journal]\nStorage=volatile\n' >"$root/etc/systemd/journald.conf.d/keel.conf"

# Package caches are a third of the size.
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/*
