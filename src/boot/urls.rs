//! Where a machine finds what is its own on our HTTP server. Pure.
//!
//! The HTTP room reads these paths; both are tested against each other there.

use crate::model::Instance;

/// The URL of an image's file by its number, the kernel's being 0.
#[must_use]
pub fn file(authority: &str, instance: &Instance, number: usize, encoded_name: &str) -> String {
    let token = instance.secrets.files.digits();
    let number = number.to_string();
    ["http://", authority, "/boot/", &token, "/", &number, "/", encoded_name].concat()
}

/// Below which `user-data`, `meta-data` and `vendor-data` are: `{{ nocloud }}`,
/// with the slash at its end that cloud-init wants.
#[must_use]
pub fn nocloud(authority: &str, instance: &Instance) -> String {
    ["http://", authority, "/init/", &instance.secrets.init.digits(), "/"].concat()
}

/// Of the Ignition configuration: `{{ ignition }}`.
#[must_use]
pub fn ignition(authority: &str, instance: &Instance) -> String {
    nocloud(authority, instance) + "ignition"
}

/// Of `Init` as it was given: `{{ init }}`.
#[must_use]
pub fn init(authority: &str, instance: &Instance) -> String {
    nocloud(authority, instance) + "init"
}

/// Where the machine reports in, and asks whether it is still wanted:
/// `{{ report }}`, without a slash at its end.
#[must_use]
pub fn report(authority: &str, instance: &Instance) -> String {
    ["http://", authority, "/report/", &instance.secrets.report.digits()].concat()
}
