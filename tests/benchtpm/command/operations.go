// Package command has the TPM commands that the benchmark runs: on the host beside swtpm,
// and in a guest.
package command

import (
	"bytes"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
)

// Operation is a command that is measured.
type Operation struct {
	Name  string
	Count int // how often in a round, on each side
	// Cold: before each command the TPM is shut down, loses power and gets it back,
	// which is not part of the time.
	Cold bool
	// Luck: the time of one command says little, as it depends on random numbers.
	// Rounds are compared by their sums, others by their medians.
	Luck bool
	// Prepare makes what the command needs and returns its bytes.
	Prepare func(k *Kit) ([]byte, error)
	// Vary changes a command for its n-th use.
	Vary func(command []byte, n uint32)
}

// Operations are measured in this order (Library part 3: §9.3, §16.1, §22.2, §22.4, §31.7,
// §31.13, §12.1, §20.2, §18.4).
var Operations = []Operation{
	{Name: "Startup", Count: 50, Cold: true, Prepare: startup},
	{Name: "GetRandom", Count: 500, Prepare: getRandom},
	{Name: "PCR_Extend", Count: 500, Prepare: pcrExtend},
	{Name: "PCR_Read", Count: 500, Prepare: pcrRead},
	{Name: "NV_Write", Count: 500, Prepare: nvWrite, Vary: varyWrite},
	{Name: "NV_Read", Count: 500, Prepare: nvRead},
	{Name: "Create RSA-2048", Count: 30, Luck: true, Prepare: createRSA},
	{Name: "Create P-256", Count: 100, Prepare: createECC},
	{Name: "Sign RSA-2048", Count: 100, Prepare: signRSA},
	{Name: "Sign P-256", Count: 200, Prepare: signECC},
	{Name: "Quote P-256", Count: 200, Prepare: quote},
}

// Sizes of what commands carry, in bytes.
const (
	RandomSize = 32
	digestSize = 32 // SHA-256
	NVSize     = 64
)

// A PCR that everybody may extend, and the indices of the rest.
const (
	debugPCR = 16
	nvIndex  = tpm2.TPMHandle(0x01800001)
)

func startup(*Kit) ([]byte, error) { return record(tpm2.Startup{StartupType: tpm2.TPMSUClear}) }

func getRandom(*Kit) ([]byte, error) { return record(tpm2.GetRandom{BytesRequested: RandomSize}) }

func pcrExtend(*Kit) ([]byte, error) {
	return record(tpm2.PCRExtend{
		PCRHandle: empty(debugPCR),
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
			{HashAlg: tpm2.TPMAlgSHA256, Digest: bytes.Repeat([]byte{0xA5}, digestSize)},
		}},
	})
}

func pcrRead(*Kit) ([]byte, error) { return record(tpm2.PCRRead{PCRSelectionIn: pcrs(debugPCR)}) }

func nvWrite(k *Kit) ([]byte, error) {
	index, err := k.DefineIndex(NVSize)
	if err != nil {
		return nil, err
	}
	return record(tpm2.NVWrite{AuthHandle: empty(tpm2.TPMRHOwner), NVIndex: index, Data: tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, NVSize)}})
}

// varyWrite puts a number at the end of what NV_Write writes, before the offset: an
// engine does not write what is there already.
func varyWrite(command []byte, n uint32) {
	binary.BigEndian.PutUint32(command[len(command)-2-4:], n)
}

func nvRead(k *Kit) ([]byte, error) {
	// An index that was never written cannot be read.
	write, err := nvWrite(k)
	if err != nil {
		return nil, err
	}
	if err := k.Send(write); err != nil {
		return nil, err
	}
	index, err := indexOf(k.TPM)
	if err != nil {
		return nil, err
	}
	return record(tpm2.NVRead{AuthHandle: empty(tpm2.TPMRHOwner), NVIndex: index, Size: NVSize})
}

func createRSA(k *Kit) ([]byte, error) { return k.create(rsaKey) }

func createECC(k *Kit) ([]byte, error) { return k.create(eccKey(false)) }

func signRSA(k *Kit) ([]byte, error) {
	return k.sign(rsaKey, tpm2.TPMTSigScheme{
		Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256}),
	})
}

func signECC(k *Kit) ([]byte, error) { return k.sign(eccKey(false), ecdsa) }

// quote is of what the firmware measured, with a key as attestation has it: one that
// signs nothing from without.
func quote(k *Kit) ([]byte, error) {
	key, err := k.load(eccKey(true))
	if err != nil {
		return nil, err
	}
	return record(tpm2.Quote{
		SignHandle: key, QualifyingData: tpm2.TPM2BData{Buffer: bytes.Repeat([]byte{0x5A}, digestSize)},
		InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, PCRSelect: pcrs(0, 1, 2, 3, 4, 5, 6, 7),
	})
}

var ecdsa = tpm2.TPMTSigScheme{
	Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256}),
}

func pcrs(list ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(list...)},
	}}
}

// signing are the attributes of a key that signs. None here counts failed
// authorizations, whose bookkeeping would be measured with the rest.
func signing(restricted bool) tpm2.TPMAObject {
	return tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true, Restricted: restricted,
	}
}

var rsaKey = tpm2.TPMTPublic{
	Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: signing(false),
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048}),
}

// eccKey is a key on P-256. A restricted one has its scheme.
func eccKey(restricted bool) tpm2.TPMTPublic {
	parms := &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256}
	if restricted {
		parms.Scheme = tpm2.TPMTECCScheme{
			Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
		}
	}
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: signing(restricted),
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, parms),
	}
}
