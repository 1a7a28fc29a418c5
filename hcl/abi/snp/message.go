package snp

// Guest messages: an encrypted and authenticated page from the guest to the
// AMD-SP and back (SNP firmware ABI, SNP_GUEST_REQUEST).
// The additional authenticated data are bytes 30h to 5Fh; the nonce is the
// sequence number, extended with zeros.
const (
	MSG_AUTHTAG     = 0x00 // 32 bytes, of which AES-256-GCM fills 16
	MSG_SEQNO       = 0x20 // eight bytes
	MSG_ALGO        = 0x30 // one byte
	MSG_HDR_VERSION = 0x31 // one byte
	MSG_HDR_SIZE    = 0x32 // two bytes
	MSG_TYPE        = 0x34 // one byte
	MSG_VERSION     = 0x35 // one byte
	MSG_SIZE        = 0x36 // two bytes: of the payload
	MSG_VMPCK       = 0x3C // one byte
	MSG_PAYLOAD     = 0x60
	MSG_AAD         = 0x30
	MSG_AAD_SIZE    = 0x30
	MSG_TAG_SIZE    = 16
	MSG_NONCE_SIZE  = 12
	MSG_KEY_SIZE    = 32

	MSG_ALGO_AES_256_GCM = 1
	MSG_HDR_VERSION_1    = 1
)

// Message types (SNP firmware ABI, SNP_GUEST_REQUEST, table "Message Type Encodings").
const (
	MSG_TYPE_CPUID_REQ    = 1
	MSG_TYPE_CPUID_RSP    = 2
	MSG_TYPE_KEY_REQ      = 3
	MSG_TYPE_KEY_RSP      = 4
	MSG_TYPE_REPORT_REQ   = 5
	MSG_TYPE_REPORT_RSP   = 6
	MSG_TYPE_EXPORT_REQ   = 7
	MSG_TYPE_EXPORT_RSP   = 8
	MSG_TYPE_IMPORT_REQ   = 9
	MSG_TYPE_IMPORT_RSP   = 10
	MSG_TYPE_ABSORB_REQ   = 11
	MSG_TYPE_ABSORB_RSP   = 12
	MSG_TYPE_VMRK_REQ     = 13
	MSG_TYPE_VMRK_RSP     = 14
	MSG_TYPE_TSC_INFO_REQ = 17
	MSG_TYPE_TSC_INFO_RSP = 18
)

// Key derivation (SNP firmware ABI §7.2, tables "MSG_KEY_REQ" and
// "MSG_KEY_RSP").
const (
	KEY_REQ_ROOT_KEY_SELECT    = 0x00 // four bytes
	KEY_REQ_GUEST_FIELD_SELECT = 0x08
	KEY_REQ_VMPL               = 0x10 // four bytes
	KEY_REQ_GUEST_SVN          = 0x14 // four bytes
	KEY_REQ_TCB_VERSION        = 0x18
	KEY_REQ_SIZE               = 0x20 // of message version 1

	KEY_ROOT_VMRK        = 1 << 0 // else VCEK or VLEK
	KEY_ROOT_SEL_SHIFT   = 1      // two bits: 0 VLEK if installed, 1 VCEK, 2 VLEK
	KEY_ROOT_DEFINED     = 7
	KEY_MIX_GUEST_POLICY = 1 << 0
	KEY_MIX_IMAGE_ID     = 1 << 1
	KEY_MIX_FAMILY_ID    = 1 << 2
	KEY_MIX_MEASUREMENT  = 1 << 3
	KEY_MIX_GUEST_SVN    = 1 << 4
	KEY_MIX_TCB_VERSION  = 1 << 5
	KEY_MIX_DEFINED      = 1<<6 - 1

	KEY_RSP_STATUS = 0x00 // four bytes
	KEY_RSP_KEY    = 0x20 // 32 bytes
	KEY_RSP_SIZE   = 0x40
)

// Report requests (SNP firmware ABI §7.3, tables "MSG_REPORT_REQ" and
// "MSG_REPORT_RSP").
const (
	REPORT_REQ_DATA    = 0x00 // 64 bytes
	REPORT_REQ_VMPL    = 0x40 // four bytes
	REPORT_REQ_KEY_SEL = 0x44 // four bytes, of which two bits: as KEY_ROOT_SEL
	REPORT_REQ_SIZE    = 0x60

	REPORT_RSP_STATUS      = 0x00 // four bytes
	REPORT_RSP_REPORT_SIZE = 0x04 // four bytes
	REPORT_RSP_REPORT      = 0x20
)

// The secrets page that the AMD-SP fills at launch (SNP firmware ABI, SNP_LAUNCH_UPDATE),
// and what a guest's SVSM adds to it (SVSM, "Secrets page").
const (
	SECRETS_VERSION           = 0x000 // four bytes
	SECRETS_FLAGS             = 0x004 // four bytes: bit 0 IMI_EN
	SECRETS_FMS               = 0x008 // four bytes
	SECRETS_GOSVW             = 0x010 // 16 bytes
	SECRETS_VMPCK0            = 0x020 // 32 bytes each, by VMPL
	SECRETS_OS_RESERVED       = 0x0A0 // 96 bytes
	SECRETS_VMSA_TWEAK_BITMAP = 0x100 // 64 bytes
	SECRETS_SVSM_BASE         = 0x140
	SECRETS_SVSM_SIZE         = 0x148
	SECRETS_SVSM_CAA          = 0x150
	SECRETS_SVSM_MAX_VERSION  = 0x158 // four bytes
	SECRETS_SVSM_GUEST_VMPL   = 0x15C // one byte
	SECRETS_TSC_FACTOR        = 0x160 // four bytes
)
