//! `rookery send` and `rookery call`: a message typed as JSON.

use clap::Args;
use rookery_node::Payload;

use super::{
    connect::{CommandError, Session},
    out,
    spawn::json,
    target::{Target, no_one_process},
};

#[derive(Debug, Args)]
pub(crate) struct MessageArgs {
    /// Whom: a pid as '<orders-0.1f3a.42>', name@node, or a name on the node that is connected to or in the cluster;
    /// to send to, also a group as 'chat#rooms' or '#rooms'.
    target: Target,
    /// The message as JSON, as '{"Add":5}'.
    #[arg(value_parser = json)]
    message: String,
}

/// Sends; exit 0 says that it is on its way, not that it was received.
pub(crate) async fn send(args: MessageArgs, session: &Session) -> Result<(), CommandError> {
    let to = args.target.destination(session).await?;
    let sent = session.runtime.send_payload(&to, Payload::json(args.message)).await;
    sent.map_err(|error| CommandError::call(&to, error))?;
    if session.json {
        session.print_json(&serde_json::json!({ "target": to.to_string() }))?;
    }
    Ok(())
}

/// Calls, and prints the answer as JSON; a text without its quotes unless `--json`.
pub(crate) async fn call(args: MessageArgs, session: &Session) -> Result<(), CommandError> {
    if let Target::Group(group) = &args.target {
        return Err(no_one_process(group));
    }
    let to = args.target.destination(session).await?;
    let answer = session.runtime.call_payload(&to, Payload::json(args.message), session.timeout).await;
    let answer = answer.map_err(|error| CommandError::call(&to, error))?;
    let text = String::from_utf8_lossy(&answer.body);
    match serde_json::from_str(&text) {
        Ok(serde_json::Value::String(text)) if !session.json => out::line(&text)?,
        _ => out::line(&text)?,
    }
    Ok(())
}
