//! Starts the embedded stand-in for whoever owns checks: the library itself knows no server.

use netra_critical::config::Launched;
use netra_critical::suite::{LaunchOptions, Running};
use netra_stand_in::{Options, StandIn};

/// Starts one; it stops when what is returned is dropped.
pub(crate) fn launch(options: LaunchOptions) -> Result<(Launched, Running), String> {
    let (jwt_secret, e2e_key) = options.secrets.unzip();
    let faults = options.fault.into_iter().collect();
    let options = Options { db: options.db, jwt_secret, e2e_key, faults, ..Options::default() };
    let server = StandIn::start(options).map_err(|error| error.to_string())?;
    let launched = Launched {
        api_url: server.api_url().to_owned(),
        ws_url: server.ws_url().to_owned(),
        auth_url: server.auth_url().to_owned(),
        ca_pem: server.ca_pem().map(str::to_owned),
        jwt_secret: server.jwt_secret().to_owned(),
        e2e_key: server.e2e_key().to_owned(),
    };
    Ok((launched, Box::new(server)))
}
