#!/bin/busybox sh
# /init of a guest that loads modules and then runs a script, or the system on a
# SCSI disk. See ToolsInitrd for what the kernel's command line says.

/bin/busybox mkdir -p /proc /sys /dev /tmp /run /bin /sbin /usr/bin /usr/sbin /newroot
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev 2>/dev/null
# Files that are there already stay: Debian's tools, where the initrd has them.
/bin/busybox --install -s 2>/dev/null
# Debian's tools are in /sbin and /bin, before applets of the same name elsewhere.
export PATH=/sbin:/bin:/usr/sbin:/usr/bin HOME=/ TERM=vt100 ENV=/etc/shell PS1='keel-guest:\w# ' LC_ALL=C

say() { echo "KEEL-GUEST $*"; }
pass() { say result PASS "$@"; }
fail() { say result FAIL "$@"; }

# Lets the UART swallow what was said before the power goes.
finish() {
	say done
	sync
	sleep 1
	poweroff -f
	while :; do sleep 60; done
}

modules= script= root=
for word in $(cat /proc/cmdline); do
	case $word in
	keel.modules=*) modules=${word#*=} ;;
	keel.script=*) script=${word#*=} ;;
	keel.root=*) root=${word#*=} ;;
	esac
done

# Only a panic may split the lines of a script.
[ -z "$script" ] || echo '0 4 0 7' >/proc/sys/kernel/printk
say userspace

bad=
for module in $(echo "$modules" | tr , ' '); do
	insmod "/lib/keel/$module.ko" || bad="$bad $module"
done
if [ -n "$bad" ]; then
	fail modules "cannot load$bad"
	dmesg | tail -n 30
elif [ -n "$modules" ]; then
	pass modules "$modules"
fi

if [ -n "$script" ]; then
	shell='/bin/busybox sh'
	[ ! -x /bin/dash ] || shell=/bin/dash
	# Typing must not stop it; what it says and its errors share one way out.
	if $shell "/scripts/$script" </dev/null 2>&1; then
		pass script "$script"
	else
		fail script "$script exit=$?"
		dmesg | tail -n 60
	fi
	finish
fi

# root_disk prints the device of the SCSI disk with LUN $1.
root_disk() {
	for device in /sys/bus/scsi/devices/*:*:*:"$1"; do
		[ "$(cat "$device/type" 2>/dev/null)" = 0 ] || continue
		for block in "$device"/block/*; do
			[ -e "$block" ] || continue
			echo "/dev/${block##*/}"
			return
		done
	done
}

if [ -n "$root" ]; then
	tries=0
	until disk=$(root_disk "$root"); [ -b "$disk" ]; do
		tries=$((tries + 1))
		if [ $tries -ge 600 ]; then
			fail root "no disk with LUN $root"
			dmesg | tail -n 60
			finish
		fi
		sleep 0.2
	done
	# Read-only, as any initrd does: the system checks it and mounts it for writing.
	if ! mount -t ext4 -o ro "$disk" /newroot; then
		fail root "cannot mount $disk"
		dmesg | tail -n 60
		finish
	fi
	pass root "$disk"
	for dir in dev proc sys; do mount -o move "/$dir" "/newroot/$dir"; done
	exec switch_root /newroot /sbin/init
fi

while :; do
	setsid cttyhack sh </dev/ttyS0 >/dev/ttyS0 2>&1
done
