package kernelcfg

import "keel/kernelcfg/deb"

// luksBookworm are systemd's tools for encrypted disks, cryptsetup, and what both need
// beside the packages of the TPM's tools.
var luksBookworm = [][]deb.Pin{
	{
		{
			Name: "systemd", Version: "252.39-1~deb12u2",
			Pool:   "pool/main/s/systemd/systemd_252.39-1~deb12u2_amd64.deb",
			SHA256: "286f879c537bfba92e59d580c075ad20ab49020244c79634656850a306dd462b", Size: 3043940,
		},
		{
			Name: "systemd", Version: "252.38-1~deb12u1",
			Pool:   "pool/updates/main/s/systemd/systemd_252.38-1~deb12u1_amd64.deb",
			SHA256: "9d86b1146870f30cde7c684558fff56a495da510e34c5f08424218634cf5be0f", Size: 3043428,
		},
	},
	{
		{
			Name: "libsystemd-shared", Version: "252.39-1~deb12u2",
			Pool:   "pool/main/s/systemd/libsystemd-shared_252.39-1~deb12u2_amd64.deb",
			SHA256: "01458465c816b9eb63b92241869ddb46f332b8f498cf7a5979b84ec293cfdfda", Size: 1696184,
		},
		{
			Name: "libsystemd-shared", Version: "252.38-1~deb12u1",
			Pool:   "pool/updates/main/s/systemd/libsystemd-shared_252.38-1~deb12u1_amd64.deb",
			SHA256: "93941cf5488adad7db7ab59d3e8453e1032b8765f0100cca4c2433787a5edad7", Size: 1694564,
		},
	},
	{
		{
			Name: "cryptsetup-bin", Version: "2:2.6.1-4~deb12u2",
			Pool:   "pool/main/c/cryptsetup/cryptsetup-bin_2.6.1-4~deb12u2_amd64.deb",
			SHA256: "ac25a10b8c7a5fbd4ffe64a830edd24a7e04b3416914bbb096c21e92e15a65d2", Size: 473680,
		},
	},
	{
		{
			Name: "libcryptsetup12", Version: "2:2.6.1-4~deb12u2",
			Pool:   "pool/main/c/cryptsetup/libcryptsetup12_2.6.1-4~deb12u2_amd64.deb",
			SHA256: "b9a607c219be5ef04bc0fcfaec3752d9a1ba07df8d3bb2aed9bf348f90d1b6cc", Size: 223344,
		},
	},
	{
		{
			Name: "libdevmapper1.02.1", Version: "2:1.02.185-2",
			Pool:   "pool/main/l/lvm2/libdevmapper1.02.1_1.02.185-2_amd64.deb",
			SHA256: "aaa78ca236055fedccf637eacf7bda02bf1980b2db668dccd202b04d0d2cfe04", Size: 132796,
		},
	},
	{
		{
			Name: "libargon2-1", Version: "0~20171227-0.3+deb12u1",
			Pool:   "pool/main/a/argon2/libargon2-1_0~20171227-0.3+deb12u1_amd64.deb",
			SHA256: "4a8155b06270b88eed34d132acfc8ccc0b85499e1c4bfd7f31f8b199af42b1de", Size: 19432,
		},
	},
	{
		{
			Name: "libjson-c5", Version: "0.16-2",
			Pool:   "pool/main/j/json-c/libjson-c5_0.16-2_amd64.deb",
			SHA256: "d0e1ed8637d1c26b9720f6057d6355f18378bba5cc2553e459d1632783c00d70", Size: 44120,
		},
	},
	libblkidBookworm,
	libuuidBookworm,
	libmountBookworm,
	libselinuxBookworm,
	libpcreBookworm,
	{
		{
			Name: "libacl1", Version: "2.3.1-3",
			Pool:   "pool/main/a/acl/libacl1_2.3.1-3_amd64.deb",
			SHA256: "8be9df5795114bfe90e2be3d208ef47a5edd3fc7b3e20d387a597486d444e5e2", Size: 31488,
		},
	},
	{
		{
			Name: "libcap2", Version: "1:2.66-4+deb12u3+b1",
			Pool:   "pool/main/libc/libcap2/libcap2_2.66-4+deb12u3+b1_amd64.deb",
			SHA256: "8d684c673e7483802a5c447834b0df6fce006eb3a7109e1be412f5ad425bb24f", Size: 27708,
		},
	},
	{
		{
			Name: "libcrypt1", Version: "1:4.4.33-2",
			Pool:   "pool/main/libx/libxcrypt/libcrypt1_4.4.33-2_amd64.deb",
			SHA256: "f5f60a5cdfd4e4eaa9438ade5078a57741a7a78d659fcb0c701204f523e8bd29", Size: 89464,
		},
	},
	{
		{
			Name: "libgcrypt20", Version: "1.10.1-3+deb12u1",
			Pool:   "pool/main/libg/libgcrypt20/libgcrypt20_1.10.1-3+deb12u1_amd64.deb",
			SHA256: "e7a56552139c693904a6f9712234c05fe918353273a7cbdb5e62f423ad71bb97", Size: 696204,
		},
	},
	{
		{
			Name: "libgpg-error0", Version: "1.46-1",
			Pool:   "pool/main/libg/libgpg-error/libgpg-error0_1.46-1_amd64.deb",
			SHA256: "89944ee11d7370ce6ef46fc52f094c4a6512eff8943ec4c6ebefeae6360ceada", Size: 76888,
		},
	},
	{
		{
			Name: "libip4tc2", Version: "1.8.9-2",
			Pool:   "pool/main/i/iptables/libip4tc2_1.8.9-2_amd64.deb",
			SHA256: "f2c48b367f9ec13f9aa577e7ccf81b371ce5d5fe22dddf9d7aa99f1e0bb7cfc4", Size: 19016,
		},
	},
	{
		{
			Name: "libkmod2", Version: "30+20221128-1",
			Pool:   "pool/main/k/kmod/libkmod2_30+20221128-1_amd64.deb",
			SHA256: "af63bbbfc15fbd1f254b15c393b3b95b18b18cc81348fc1b4f1c9c34b4d672d7", Size: 57892,
		},
	},
	{
		{
			Name: "liblz4-1", Version: "1.9.4-1",
			Pool:   "pool/main/l/lz4/liblz4-1_1.9.4-1_amd64.deb",
			SHA256: "64cde86cef1deaf828bd60297839b59710b5cd8dc50efd4f12643caaee9389d3", Size: 62884,
		},
	},
	{
		{
			Name: "liblzma5", Version: "5.4.1-1+deb12u2",
			Pool:   "pool/updates/main/x/xz-utils/liblzma5_5.4.1-1+deb12u2_amd64.deb",
			SHA256: "3d8c29c8c21ec6007635e1b2591edf98b771c9572a085968f47452b33040f384", Size: 205796,
		},
		{
			Name: "liblzma5", Version: "5.4.1-1+deb12u1",
			Pool:   "pool/main/x/xz-utils/liblzma5_5.4.1-1+deb12u1_amd64.deb",
			SHA256: "f96d8876b53ec89d76a992bc199679b818cf518225a768954d9451fb556a4eb7", Size: 205732,
		},
	},
	{
		{
			Name: "libzstd1", Version: "1.5.4+dfsg2-5",
			Pool:   "pool/main/libz/libzstd/libzstd1_1.5.4+dfsg2-5_amd64.deb",
			SHA256: "6315b5ac38b724a710fb96bf1042019398cb656718b1522279a5185ed39318fa", Size: 290036,
		},
	},
	{
		{
			Name: "libseccomp2", Version: "2.5.4-1+deb12u1",
			Pool:   "pool/main/libs/libseccomp/libseccomp2_2.5.4-1+deb12u1_amd64.deb",
			SHA256: "108fe67957ca7cf9ba51d801118a1b37d404bea7b6e365025cd00779e9eca38d", Size: 46808,
		},
	},
	{
		{
			Name: "libpam0g", Version: "1.5.2-6+deb12u2",
			Pool:   "pool/main/p/pam/libpam0g_1.5.2-6+deb12u2_amd64.deb",
			SHA256: "a06f889caf9e97ccf04dedec0905573916bc6ec3366ade2c6ef8900047fd5cc1", Size: 92060,
		},
	},
	{
		{
			Name: "libaudit1", Version: "1:3.0.9-1",
			Pool:   "pool/main/a/audit/libaudit1_3.0.9-1_amd64.deb",
			SHA256: "30954df4b5a7c505661ba8ae5e6ea94f5805e408899fb400783bb166eb5ff306", Size: 46764,
		},
	},
	{
		{
			Name: "libcap-ng0", Version: "0.8.3-1+b3",
			Pool:   "pool/main/libc/libcap-ng/libcap-ng0_0.8.3-1+b3_amd64.deb",
			SHA256: "b4b54769c77e4a71c8b33aee4d600ba28a9994a1c6f60d55d4ebe7fc44882e07", Size: 17068,
		},
	},
	{
		{
			Name: "libudev1", Version: "252.39-1~deb12u2",
			Pool:   "pool/main/s/systemd/libudev1_252.39-1~deb12u2_amd64.deb",
			SHA256: "6f7e08f11c4809d2e5998c775f7b423ab5ec2ce0309494b4a2615037052245e2", Size: 108880,
		},
		{
			Name: "libudev1", Version: "252.38-1~deb12u1",
			Pool:   "pool/updates/main/s/systemd/libudev1_252.38-1~deb12u1_amd64.deb",
			SHA256: "062b9333ef651444875309ddcf35a7fccb8784d53f1128340671c0b9c37d1945", Size: 108664,
		},
	},
	{
		{
			Name: "libpopt0", Version: "1.19+dfsg-1",
			Pool:   "pool/main/p/popt/libpopt0_1.19+dfsg-1_amd64.deb",
			SHA256: "6f94b488255acd996254f775c77ff3956557c61f860a3c9caeaf65457554194f", Size: 43268,
		},
	},
}
