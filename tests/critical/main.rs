//! The 25 critical checks. `cargo test --test critical` runs them all, `cargo test --test critical test_003` one.
//!
//! One file a check; this one only lists them and says where the embedded stand-in comes from.

use netra_critical::{Check, Staging};
use rstest::fixture;

#[path = "../stand_in.rs"]
mod stand_in;

mod test_001_websocket_connection_real;
mod test_002_websocket_authentication_real;
mod test_003_websocket_message_send_real;
mod test_004_websocket_concurrent_connections_real;
mod test_005_agent_discovery_real;
mod test_006_agent_configuration_real;
mod test_007_agent_execution_endpoints_real;
mod test_008_agent_streaming_capabilities_real;
mod test_009_agent_status_monitoring_real;
mod test_010_tool_execution_endpoints_real;
mod test_011_agent_performance_real;
mod test_012_message_persistence_real;
mod test_013_thread_creation_real;
mod test_014_thread_switching_real;
mod test_015_thread_history_real;
mod test_016_user_context_isolation_real;
mod test_017_thread_lifecycle_real;
mod test_018_session_persistence_real;
mod test_019_agent_lifecycle_management_real;
mod test_020_streaming_partial_results_real;
mod test_021_message_ordering_consistency_real;
mod test_022_critical_event_delivery_real;
mod test_023_response_time_slas_real;
mod test_024_concurrent_user_isolation_real;
mod test_025_critical_path_completion_real;

/// All checks, for the ledger: it names those that did not run.
static ROSTER: [&Check; 25] = [
    &test_001_websocket_connection_real::CHECK,
    &test_002_websocket_authentication_real::CHECK,
    &test_003_websocket_message_send_real::CHECK,
    &test_004_websocket_concurrent_connections_real::CHECK,
    &test_005_agent_discovery_real::CHECK,
    &test_006_agent_configuration_real::CHECK,
    &test_007_agent_execution_endpoints_real::CHECK,
    &test_008_agent_streaming_capabilities_real::CHECK,
    &test_009_agent_status_monitoring_real::CHECK,
    &test_010_tool_execution_endpoints_real::CHECK,
    &test_011_agent_performance_real::CHECK,
    &test_012_message_persistence_real::CHECK,
    &test_013_thread_creation_real::CHECK,
    &test_014_thread_switching_real::CHECK,
    &test_015_thread_history_real::CHECK,
    &test_016_user_context_isolation_real::CHECK,
    &test_017_thread_lifecycle_real::CHECK,
    &test_018_session_persistence_real::CHECK,
    &test_019_agent_lifecycle_management_real::CHECK,
    &test_020_streaming_partial_results_real::CHECK,
    &test_021_message_ordering_consistency_real::CHECK,
    &test_022_critical_event_delivery_real::CHECK,
    &test_023_response_time_slas_real::CHECK,
    &test_024_concurrent_user_isolation_real::CHECK,
    &test_025_critical_path_completion_real::CHECK,
];

/// The target of this run, as `staging.toml` and the environment have it; shared by all checks of the process.
#[fixture]
fn staging() -> Staging {
    Staging::shared(&ROSTER, stand_in::launch)
}
