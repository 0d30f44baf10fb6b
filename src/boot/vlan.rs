//! The lines of a script that bring iPXE onto a machine's VLAN. Pure.
//!
//! iPXE comes up without the tag that its firmware may have used. `vcreate` is in iPXE
//! 2.0, and not in that of 2019; where it lacks, or nobody answers on the VLAN, the script
//! goes on without, and says so: it was loaded so.

use std::fmt::Write as _;

use crate::model::VlanId;

/// Cards that are looked at.
const CARDS: u32 = 4;

/// Attempts to get an address on the VLAN. Each takes 17 seconds in vain, so that a
/// spanning tree of 50 seconds and an LACP of 90 are waited out.
const ATTEMPTS: u32 = 6;

/// The largest packet, with room for the tag in a frame of the usual size, as UEFI itself
/// has it (EDK2's MnpDxe). In QEMU, larger frames reached neither OVMF's driver nor UNDI.
const MTU: u32 = 1496;

/// Opens the interface of the VLAN if iPXE has it already, with an address: some take
/// it over from the firmware, tag and all. Before anything is asked without a tag.
pub(super) fn keep(text: &mut String, vlan: VlanId) {
    for card in 0..CARDS {
        line(
            text,
            format_args!(
                "isset ${{net{card}-{vlan}/ip}} && set net{card}-{vlan}/mtu {MTU} && ifopen net{card}-{vlan} && set tagged {vlan} ||\n"
            ),
        );
    }
}

/// Makes the VLAN on the card that has an address, and gets one there; then asks at
/// `url` again, so that the script that comes is one for the new address. `tagged`
/// says, as long as this iPXE runs, that it was done, or that it could not be.
///
/// Meanwhile nothing else has a route: the card keeps its address for itself alone.
pub(super) fn enter(text: &mut String, vlan: VlanId, url: &str) {
    text.push_str("isset ${tagged} && goto on_vlan ||\nclear trunk ||\n");
    for card in (0..CARDS).rev() {
        line(text, format_args!("isset ${{net{card}/ip}} && set trunk net{card} ||\n"));
    }
    line(
        text,
        format_args!(
            "isset ${{trunk}} || goto no_vlan ||\n\
             vcreate --tag {vlan} ${{trunk}} || goto no_vlan ||\n\
             set ${{trunk}}-{vlan}/mtu {MTU}\n\
             set silent:int32 0\n\
             :enter_vlan\n\
             dhcp ${{trunk}}-{vlan} && goto entered_vlan ||\n\
             inc silent ||\n\
             iseq ${{silent}} {ATTEMPTS} && goto silent_vlan ||\n\
             echo remoteboot: nobody answers on VLAN {vlan}, asking again\n\
             sleep 1 ||\n\
             goto enter_vlan\n\
             :silent_vlan\n\
             echo remoteboot: nobody answered on VLAN {vlan}, going on without it\n\
             vdestroy ${{trunk}}-{vlan} ||\n\
             ifopen ${{trunk}} ||\n\
             clear ${{trunk}}/netmask ||\n\
             clear ${{trunk}}/gateway ||\n\
             set tagged no\n\
             goto on_vlan\n\
             :no_vlan\n\
             echo remoteboot: this iPXE cannot make VLAN {vlan}, going on without it\n\
             set tagged no\n\
             goto on_vlan\n"
        ),
    );
    line(
        text,
        format_args!(
            ":entered_vlan\n\
             set tagged {vlan}\n\
             set ${{trunk}}/netmask 255.255.255.255\n\
             set ${{trunk}}/gateway 0.0.0.0\n\
             echo remoteboot: on VLAN {vlan}\n\
             set silent:int32 0\n\
             :ask_on_vlan\n\
             chain --replace --autofree {url} ||\n\
             inc silent ||\n\
             iseq ${{silent}} {ATTEMPTS} && goto silent_vlan ||\n\
             sleep 5 ||\n\
             goto ask_on_vlan\n\
             :on_vlan\n"
        ),
    );
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String has no errors");
}
