# What the scripts share. Read with ". /scripts/lib.sh"; nothing runs by itself.

. /scripts/common.sh

# event NAME WORDS: something that the host waits for.
event() { echo "KEEL-STORAGE event $*"; }

# section NAME COMMAND...: runs a command and marks what it prints, with its exit
# status at the end. The command may fail.
section() {
	section_name=$1
	shift
	echo "KEEL-STORAGE begin $section_name"
	section_status=0
	"$@" 2>&1 || section_status=$?
	echo "KEEL-STORAGE end $section_name $section_status"
}

# Peripheral device types (SPC-4, table 141).
type_disk=0
type_dvd=5

# unit TYPE LUN: the sysfs folder of a logical unit, or nothing.
unit() {
	for unit_dir in /sys/bus/scsi/devices/*:*:*:"$2"; do
		if [ "$(cat "$unit_dir/type" 2>/dev/null)" = "$1" ]; then
			echo "$unit_dir"
			return
		fi
	done
}

# node TYPE LUN CLASS: the device node of a unit in class block or scsi_generic.
node() {
	node_unit=$(unit "$1" "$2")
	[ -n "$node_unit" ] || return 0
	for node_entry in "$node_unit/$3"/*; do
		[ -e "$node_entry" ] || continue
		[ ! -e "/dev/${node_entry##*/}" ] || echo "/dev/${node_entry##*/}"
		return 0
	done
}

# await TYPE LUN CLASS: node, once it is there; fails the script after a minute.
await() {
	await_tries=0
	await_node=$(node "$@")
	while [ -z "$await_node" ]; do
		await_tries=$((await_tries + 1))
		[ $await_tries -lt 300 ] || fail device "no unit of type $1 with LUN $2"
		sleep 0.2
		await_node=$(node "$@")
	done
	echo "$await_node"
}

# disk LUN: the block device of a disk. Used as "d=$(disk 0)": a failure in there
# ends the script through set -e.
disk() { await $type_disk "$1" block; }

# queue DISK NAME: a limit of its request queue.
queue() { cat "/sys/block/${1#/dev/}/queue/$2"; }

# same FILE FILE BYTES WHAT: fails unless the two begin alike.
same() { cmp -n "$3" "$1" "$2" >/dev/null || fail "$4" "$1 and $2 differ"; }
