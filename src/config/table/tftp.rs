//! The rows of TFTP and of boot programs.

use super::{Description, Form, Setting};

/// In the order of the enum.
pub(super) const TFTP: &[Description] = &[
    Description {
        setting: Setting::EnableTftp,
        name: "enable-tftp",
        ancestral: Some("enableTFTP"),
        form: Form::Switch,
        heading: "TFTP",
        help: "Serves iPXE to machines that boot by PXE",
    },
    Description {
        setting: Setting::AddressTftp,
        name: "address-tftp",
        ancestral: Some("addressTFTP"),
        form: Form::Value("IP"),
        heading: "TFTP",
        help: "The address of the TFTP server, told to machines and listened on [default: \
               --address-dhcp]",
    },
    Description {
        setting: Setting::TftpPort,
        name: "tftp-port",
        ancestral: None,
        form: Form::Value("PORT"),
        heading: "TFTP",
        help: "The port of the TFTP server; firmware knows no other than 69 [default: 69]",
    },
    Description {
        setting: Setting::TftpSinglePort,
        name: "tftp-single-port",
        ancestral: None,
        form: Form::Switch,
        heading: "TFTP",
        help: "Sends files from the TFTP server's own port, as NAT, containers and some firewalls \
               need it; without it each transfer has a port of its own",
    },
    Description {
        setting: Setting::TftpBlockSize,
        name: "tftp-block-size",
        ancestral: None,
        form: Form::Value("OCTETS"),
        heading: "TFTP",
        help: "The largest block that is agreed on, 8 to 65464, for networks that take less than \
               they say [default: what fits into one packet on the way to each machine; in \
               lockstep with --tftp-fragments 65464]",
    },
    Description {
        setting: Setting::TftpFragments,
        name: "tftp-fragments",
        ancestral: None,
        form: Form::Switch,
        heading: "TFTP",
        help: "Agrees in lockstep on blocks that are larger than one packet and come in IP \
               fragments, if machines ask for them; much firmware cannot put fragments together",
    },
    Description {
        setting: Setting::TftpTransfers,
        name: "tftp-transfers",
        ancestral: None,
        form: Form::Value("COUNT"),
        heading: "TFTP",
        help: "How many transfers run at one time; other machines are not answered until one \
               ends, and ask again [default: 1024]",
    },
    Description {
        setting: Setting::TftpTransfersPerClient,
        name: "tftp-transfers-per-client",
        ancestral: None,
        form: Form::Value("COUNT"),
        heading: "TFTP",
        help: "How many of them one address may have, which may be that of a NAT with many \
               machines [default: 128]",
    },
    Description {
        setting: Setting::IpxePath,
        name: "ipxe-path",
        ancestral: Some("iPXEPath"),
        form: Form::Value("FILE"),
        heading: "TFTP",
        help: "The iPXE program for the architecture that it is made for [default: \
               undionly.kpxe in the current directory, if it is there]",
    },
    Description {
        setting: Setting::IpxeDir,
        name: "ipxe-dir",
        ancestral: None,
        form: Form::Value("DIR"),
        heading: "TFTP",
        help: "A directory of iPXE programs for all architectures, as `remoteboot pulliPXE \
               --ipxe-dir DIR` fills it; what it has not comes from /usr/lib/ipxe",
    },
    Description {
        setting: Setting::SecureBootDir,
        name: "secure-boot-dir",
        ancestral: None,
        form: Form::Value("DIR"),
        heading: "TFTP",
        help: "A directory of signed boot programs for machines with Secure Boot: a shim \
               (shimx64.efi), which is what they are told of, and what it loads (grubx64.efi, \
               ipxe.efi)",
    },
];
