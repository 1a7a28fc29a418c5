package main

import (
	"bytes"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"
)

// operation is a command that is measured.
type operation struct {
	name  string
	count int // how often in a round, on each side
	// cold: before each command the TPM is shut down, loses power and gets it back,
	// which is not part of the time.
	cold bool
	// luck: the time of one command says little, as it depends on random numbers.
	// Rounds are compared by their sums, others by their medians.
	luck bool
	// prepare makes what the command needs and returns its bytes.
	prepare func(k *kit) ([]byte, error)
	// vary changes a command for its n-th use.
	vary func(command []byte, n uint32)
}

// operations are measured in this order (Library part 3: §9.3, §16.1, §22.2, §22.4, §31.7,
// §31.13, §12.1, §20.2, §18.4).
var operations = []operation{
	{name: "Startup", count: 50, cold: true, prepare: startup},
	{name: "GetRandom", count: 500, prepare: getRandom},
	{name: "PCR_Extend", count: 500, prepare: pcrExtend},
	{name: "PCR_Read", count: 500, prepare: pcrRead},
	{name: "NV_Write", count: 500, prepare: nvWrite, vary: varyWrite},
	{name: "NV_Read", count: 500, prepare: nvRead},
	{name: "Create RSA-2048", count: 30, luck: true, prepare: createRSA},
	{name: "Create P-256", count: 100, prepare: createECC},
	{name: "Sign RSA-2048", count: 100, prepare: signRSA},
	{name: "Sign P-256", count: 200, prepare: signECC},
	{name: "Quote P-256", count: 200, prepare: quote},
}

// Sizes of what commands carry, in bytes.
const (
	randomSize = 32
	digestSize = 32 // SHA-256
	nvSize     = 64
)

// A PCR that everybody may extend, and the indices of the rest.
const (
	debugPCR = 16
	nvIndex  = tpm2.TPMHandle(0x01800001)
)

func startup(*kit) ([]byte, error) { return record(tpm2.Startup{StartupType: tpm2.TPMSUClear}) }

func getRandom(*kit) ([]byte, error) { return record(tpm2.GetRandom{BytesRequested: randomSize}) }

func pcrExtend(*kit) ([]byte, error) {
	return record(tpm2.PCRExtend{
		PCRHandle: empty(debugPCR),
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{
			{HashAlg: tpm2.TPMAlgSHA256, Digest: bytes.Repeat([]byte{0xA5}, digestSize)},
		}},
	})
}

func pcrRead(*kit) ([]byte, error) { return record(tpm2.PCRRead{PCRSelectionIn: pcrs(debugPCR)}) }

func nvWrite(k *kit) ([]byte, error) {
	index, err := k.defineIndex(nvSize)
	if err != nil {
		return nil, err
	}
	return record(tpm2.NVWrite{AuthHandle: empty(tpm2.TPMRHOwner), NVIndex: index, Data: tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, nvSize)}})
}

// varyWrite puts a number at the end of what NV_Write writes, before the offset: an
// engine does not write what is there already.
func varyWrite(command []byte, n uint32) {
	binary.BigEndian.PutUint32(command[len(command)-2-4:], n)
}

func nvRead(k *kit) ([]byte, error) {
	// An index that was never written cannot be read.
	write, err := nvWrite(k)
	if err != nil {
		return nil, err
	}
	if err := k.send(write); err != nil {
		return nil, err
	}
	index, err := indexOf(k.tpm)
	if err != nil {
		return nil, err
	}
	return record(tpm2.NVRead{AuthHandle: empty(tpm2.TPMRHOwner), NVIndex: index, Size: nvSize})
}

func createRSA(k *kit) ([]byte, error) { return k.create(rsaKey) }

func createECC(k *kit) ([]byte, error) { return k.create(eccKey(false)) }

func signRSA(k *kit) ([]byte, error) {
	return k.sign(rsaKey, tpm2.TPMTSigScheme{
		Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256}),
	})
}

func signECC(k *kit) ([]byte, error) { return k.sign(eccKey(false), ecdsa) }

// quote is of what the firmware measured, with a key as attestation has it: one that
// signs nothing from without.
func quote(k *kit) ([]byte, error) {
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
