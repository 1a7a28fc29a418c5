package initramfs

import _ "embed"

// toolsInit is the /init of ToolsInitrd.
//
//go:embed toolsinit.sh
var toolsInit string
