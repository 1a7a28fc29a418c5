package debugport

// Port is the diagnostic port of the PC AT ("IBM Personal Computer AT Technical
// Reference", 6183355, manufacturer's port), where firmware writes POST codes.
// Linux writes to it for the delay that an ISA cycle takes.
const Port = 0x80
