# What the scripts of this package share.
. /scripts/common.sh

export TPM2TOOLS_TCTI=device:/dev/tpmrm0
mkdir -p /tmp/tpm
cd /tmp/tpm
mount -t securityfs securityfs /sys/kernel/security

# check NAME: runs the function of that name, in a shell of its own in which every
# failure counts, and reports. What it prints is shown when it fails; what it writes to
# descriptor 3 is shown in any case.
failed=
check() {
	check_begin=$(cut -d' ' -f1 /proc/uptime)
	check_status=0
	(
		set -eu
		"$1"
	) 3>&1 >/tmp/output 2>&1 &
	wait $! || check_status=$?
	check_end=$(cut -d' ' -f1 /proc/uptime)
	if [ $check_status = 0 ]; then
		pass "$1" "seconds=$(echo "$check_end $check_begin" | awk '{ print $1 - $2 }')"
		return
	fi
	tail -n 15 /tmp/output
	echo "KEEL-GUEST result FAIL $1 $(tail -n 1 /tmp/output)"
	failed="$failed $1"
}

# finish ends the script as the checks went.
finish() { [ -z "$failed" ] || fail checks "$failed"; }

# refused TEXT COMMAND...: the command must fail and say why.
refused() {
	refused_text=$1
	shift
	if "$@" >/tmp/refused 2>&1; then
		echo "not refused: $*"
		exit 1
	fi
	if ! grep -q -e "$refused_text" /tmp/refused; then
		cat /tmp/refused
		echo "refused, but not with '$refused_text': $*"
		exit 1
	fi
}

# equal GOT WANT WHAT
equal() {
	[ "$1" = "$2" ] || {
		echo "$3: got '$1', want '$2'"
		exit 1
	}
}

# has FILE PATTERN
has() {
	grep -q -e "$2" "$1" || {
		cat "$1"
		echo "no $2"
		exit 1
	}
}

# lacks FILE PATTERN
lacks() {
	if grep -w -e "$2" "$1"; then
		echo "there is $2"
		exit 1
	fi
}

# send NAME FILE: gives a file to the host.
send() { note "file $1 $(base64 -w 0 "$2")" >&3; }

# values: lines "BANK PCR VALUE" of what tpm2_pcrread and tpm2_eventlog print.
values() {
	awk -F '[: ]+' '$2 ~ /^sha/ && $3 == "" { bank = $2 }
		$2 ~ /^[0-9]+$/ && $3 ~ /^0x/ { print bank, $2, tolower($3) }'
}

firmware_pcrs=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15

# pcrs tells the host the PCRs that firmware and system fill.
pcrs() {
	tpm2 pcrread "sha256:$firmware_pcrs+sha384:$firmware_pcrs" | values >read
	equal "$(wc -l <read)" 32 "number of PCRs"
	while read -r line; do note "pcr $line" >&3; done <read
}

# identity tells the host who the TPM is.
identity() {
	tpm2 readpublic -Q -c 0x81010001 -f der -o ek.pub
	send ek ek.pub
}
