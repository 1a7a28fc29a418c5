package guest

import (
	"golang.org/x/sys/unix"

	"keel/hcl/sys"
)

// The byte of CMOS RAM that survives a reset. Neither Linux nor the PC's BIOS
// gives it a meaning.
const (
	portCMOSIndex = 0x70
	portCMOSData  = 0x71
	cmosMark      = 0x6a
	cmosRebooted  = 0xa5
)

// checkReboot restarts the guest once, in the way that the kernel parameter
// "reboot=" chooses. The second boot clears the mark and reports.
func checkReboot(m *machine) (string, error) {
	err := onCPU(m.cpus[0], func() error {
		if err := sys.AllowPorts(portCMOSIndex, 2); err != nil {
			return err
		}
		sys.OutB(portCMOSIndex, cmosMark)
		if sys.InB(portCMOSData) != cmosRebooted {
			sys.OutB(portCMOSIndex, cmosMark)
			sys.OutB(portCMOSData, cmosRebooted)
			end(unix.LINUX_REBOOT_CMD_RESTART)
		}
		sys.OutB(portCMOSIndex, cmosMark)
		sys.OutB(portCMOSData, 0)
		return nil
	})
	return "second boot", err
}
