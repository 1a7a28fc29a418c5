# What the scripts of guests share. Read with ". /scripts/common.sh"; nothing runs by
# itself.

# Reports as package tests/guest parses. fail ends the script; it speaks on
# descriptor 2, for it may be called where descriptor 1 is captured.
pass() { echo "KEEL-GUEST result PASS $*"; }
fail() {
	echo "KEEL-GUEST result FAIL $*" >&2
	exit 1
}
note() { echo "KEEL-GUEST note $*"; }

# param NAME DEFAULT: the value of keel.NAME on the kernel's command line.
param() {
	for param_word in $(cat /proc/cmdline); do
		case $param_word in
		"keel.$1="*)
			echo "${param_word#*=}"
			return
			;;
		esac
	done
	echo "$2"
}
