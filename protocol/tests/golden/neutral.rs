//! Decoded frames in a form that every language can read: what stands as `value` in `testdata/vectors.json`.
//!
//! Numbers of 64 bits are decimal texts, since JSON's numbers are not exact that far in every language; bytes are
//! hexadecimal. The matches name every variant, so a new one does not compile until it has a form here.

use rookery_protocol::{
    CallFailure, Codec, ControlFrame, CreditChange, Destination, DirectoryUpdate, ExitReason, Payload, Recipient,
    ReplyRoute, Signal, SignalBody,
    handshake::{Refusal, RefusalCode, Role},
    request::{RequestBody, RequestError, ResponseBody, SpawnRequest},
};
use serde_json::{Value, json};

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "half a byte");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub fn control(frame: &ControlFrame) -> Value {
    match frame {
        ControlFrame::Hello(hello) => json!({ "frame": "hello",
            "versions": [hello.versions.0, hello.versions.1],
            "features": hello.features.0.to_string(),
            "cluster": hello.cluster.as_str(),
            "role": match hello.role { Role::Node => "node", Role::Client => "client" },
            "node": hello.node.to_string(),
            "listen_port": hello.listen_port,
            "advertised": hello.advertised,
            "max_message_bytes": hello.max_message_bytes,
            "lanes": hello.lanes,
            "replace": hello.replace,
            "extensions": extensions(&hello.extensions),
        }),
        ControlFrame::Welcome(welcome) => json!({ "frame": "welcome",
            "version": welcome.version,
            "features": welcome.features.0.to_string(),
            "node": welcome.node.to_string(),
            "advertised": welcome.advertised,
            "max_message_bytes": welcome.max_message_bytes,
            "lanes": welcome.lanes,
            "session": welcome.session.map(|session| session.get()),
            "extensions": extensions(&welcome.extensions),
        }),
        ControlFrame::Refuse(it) => json!({ "frame": "refuse", "refusal": refusal(it) }),
        ControlFrame::Confirm => json!({ "frame": "confirm" }),
        ControlFrame::Abort(it) => json!({ "frame": "abort", "refusal": refusal(it) }),
        ControlFrame::Goodbye(goodbye) => json!({ "frame": "goodbye", "reason": goodbye.reason }),
        ControlFrame::Leaving(goodbye) => json!({ "frame": "leaving", "reason": goodbye.reason }),
        ControlFrame::Peers(peers) => {
            let peers: Vec<Value> = peers
                .iter()
                .map(|peer| json!({ "node": peer.node.to_string(), "addresses": peer.addresses }))
                .collect();
            json!({ "frame": "peers", "peers": peers })
        }
        ControlFrame::Renew => json!({ "frame": "renew" }),
        ControlFrame::HaveYouHeard(node) => json!({ "frame": "have_you_heard", "node": node.to_string() }),
        ControlFrame::Heard(heard) => {
            json!({ "frame": "heard", "node": heard.node.to_string(), "ms_ago": heard.ms_ago })
        }
        ControlFrame::NewerLife(newer) => {
            json!({ "frame": "newer_life", "incarnation": newer.incarnation.to_string(), "runs": newer.runs })
        }
    }
}

fn extensions(list: &[(String, Vec<u8>)]) -> Value {
    list.iter().map(|(name, bytes)| json!([name, hex(bytes)])).collect()
}

fn refusal(refusal: &Refusal) -> Value {
    let code = refusal_code(refusal.code);
    json!({ "code": code, "text": refusal.text, "by": refusal.by.as_ref().map(ToString::to_string) })
}

fn refusal_code(code: RefusalCode) -> Value {
    match code {
        RefusalCode::Other(number) => json!({ "other": number }),
        RefusalCode::WrongCluster
        | RefusalCode::NoCommonVersion
        | RefusalCode::WrongRole
        | RefusalCode::NameNotInCertificate
        | RefusalCode::SelfDial
        | RefusalCode::Duplicate
        | RefusalCode::OlderIncarnation
        | RefusalCode::Draining
        | RefusalCode::Busy
        | RefusalCode::BadHello
        | RefusalCode::TooSlow => code.name().into(),
    }
}

pub fn signal(signal: &Signal) -> Value {
    json!({ "from": signal.from.to_string(), "to": destination(&signal.to), "signal": body(&signal.body) })
}

fn destination(to: &Destination) -> Value {
    match &to.to {
        Recipient::Serial(_) => json!({ "pid": to.to_string() }),
        Recipient::Name(name) => json!({ "node": to.node.to_string(), "name": name.as_str() }),
        Recipient::ClusterName(name) => json!({ "node": to.node.to_string(), "cluster_name": name.as_str() }),
        Recipient::Group(group) => json!({ "node": to.node.to_string(), "group": group.as_str() }),
    }
}

fn body(body: &SignalBody) -> Value {
    match body {
        SignalBody::Message { payload: it, reply, deadline_ms, credit, trace } => {
            let mut value = json!({ "kind": "message", "payload": payload(it), "reply": reply.as_ref().map(route),
                "deadline_ms": deadline_ms });
            if let Some(number) = credit {
                value["credit"] = number.0.into();
            }
            if let Some(trace) = trace {
                value["traceparent"] = trace.to_string().into();
            }
            value
        }
        SignalBody::Credit { number, change } => {
            let change = match change {
                CreditChange::More(more) => json!({ "more": more }),
                CreditChange::Unlimited => "unlimited".into(),
                CreditChange::Forget => "forget".into(),
            };
            json!({ "kind": "credit", "credit": number.0, "change": change })
        }
        SignalBody::Reply { call, outcome: Ok(it) } => {
            json!({ "kind": "reply", "call": call.to_string(), "payload": payload(it) })
        }
        SignalBody::Reply { call, outcome: Err(it) } => {
            json!({ "kind": "reply", "call": call.to_string(), "failure": failure(it) })
        }
        SignalBody::Link => json!({ "kind": "link" }),
        SignalBody::Unlink(id) => json!({ "kind": "unlink", "id": id.to_string() }),
        SignalBody::UnlinkAck(id) => json!({ "kind": "unlink_ack", "id": id.to_string() }),
        SignalBody::Exit { reason: it, linked } => json!({ "kind": "exit", "reason": reason(it), "linked": linked }),
        SignalBody::Monitor(monitor) => json!({ "kind": "monitor", "ref": monitor.to_string() }),
        SignalBody::Demonitor(monitor) => json!({ "kind": "demonitor", "ref": monitor.to_string() }),
        SignalBody::Down { monitor, reason: it } => {
            json!({ "kind": "down", "ref": monitor.to_string(), "reason": reason(it) })
        }
        SignalBody::Request { call, body } => {
            json!({ "kind": "request", "call": call.to_string(), "request": request(body) })
        }
        SignalBody::Response { call, body } => {
            json!({ "kind": "response", "call": call.to_string(), "response": response(body) })
        }
        SignalBody::NodeUp(node) => json!({ "kind": "node_up", "node": node.to_string() }),
        SignalBody::NodeDown { node, reason } => {
            json!({ "kind": "node_down", "node": node.to_string(), "reason": reason })
        }
        SignalBody::Refused { detail } => json!({ "kind": "refused", "detail": detail }),
        SignalBody::Directory(it) => json!({ "kind": "directory", "update": update(it) }),
        SignalBody::GroupChange(change) => json!({ "kind": "group_change",
            "group": change.group.as_str(), "joined": change.joined, "left": change.left }),
        SignalBody::NameConflict { name, holder } => {
            json!({ "kind": "name_conflict", "name": name.as_str(), "holder": holder })
        }
    }
}

fn update(update: &DirectoryUpdate) -> Value {
    match update {
        DirectoryUpdate::Hold { name, stamp } => {
            json!({ "hold": { "name": name.as_str(), "stamp": stamp.0.to_string() } })
        }
        DirectoryUpdate::Release { name } => json!({ "release": { "name": name.as_str() } }),
        DirectoryUpdate::Join { group, times } => json!({ "join": { "group": group, "times": times } }),
        DirectoryUpdate::Leave { group, times } => json!({ "leave": { "group": group, "times": times } }),
        DirectoryUpdate::Gone => "gone".into(),
    }
}

fn route(route: &ReplyRoute) -> Value {
    json!({ "to": route.to.to_string(), "call": route.call.to_string() })
}

fn payload(payload: &Payload) -> Value {
    let codec = match payload.codec {
        Codec::Bincode => "bincode",
        Codec::MessagePack => "message_pack",
        Codec::Json => "json",
        Codec::Raw => "raw",
    };
    json!({ "tag": payload.tag.as_str(), "codec": codec, "body": hex(&payload.body) })
}

fn reason(reason: &ExitReason) -> Value {
    match reason {
        ExitReason::Normal => "normal".into(),
        ExitReason::Shutdown => "shutdown".into(),
        ExitReason::ShutdownWith(text) => json!({ "shutdown_with": text }),
        ExitReason::Kill => "kill".into(),
        ExitReason::Killed => "killed".into(),
        ExitReason::NoProc => "no_proc".into(),
        ExitReason::NoConnection => "no_connection".into(),
        ExitReason::Panic(text) => json!({ "panic": text }),
        ExitReason::Error(text) => json!({ "error": text }),
        ExitReason::Refused(text) => json!({ "refused": text }),
        ExitReason::NameConflict(text) => json!({ "name_conflict": text }),
        ExitReason::Other(number, text) => json!({ "other": [number, text] }),
    }
}

fn failure(failure: &CallFailure) -> Value {
    match failure {
        CallFailure::NoProc => "no_proc".into(),
        CallFailure::Exited(it) => json!({ "exited": reason(it) }),
        CallFailure::Unsupported { tag, detail } => {
            json!({ "unsupported": { "tag": tag.as_str(), "detail": detail } })
        }
        CallFailure::Refused(detail) => json!({ "refused": detail }),
        CallFailure::NoConnection => "no_connection".into(),
    }
}

fn request(body: &RequestBody) -> Value {
    match body {
        RequestBody::Spawn(spawn) => json!({ "spawn": spawn_request(spawn) }),
        RequestBody::SpawnInCluster { spawn, name, groups } => json!({ "spawn_in_cluster": {
            "spawn": spawn_request(spawn), "name": name, "groups": groups } }),
        RequestBody::Register { name, pid } => json!({ "register": { "name": name.as_str(), "pid": pid } }),
        RequestBody::Unregister { name, pid } => json!({ "unregister": { "name": name.as_str(), "pid": pid } }),
        RequestBody::WhereIs { name } => json!({ "where_is": { "name": name.as_str() } }),
        RequestBody::Claim { name, pid } => json!({ "claim": { "name": name.as_str(), "pid": pid } }),
        RequestBody::RegisterInCluster { name, pid } => {
            json!({ "register_in_cluster": { "name": name.as_str(), "pid": pid } })
        }
        RequestBody::UnregisterInCluster { name, pid } => {
            json!({ "unregister_in_cluster": { "name": name.as_str(), "pid": pid } })
        }
        RequestBody::WhereInCluster { names } => json!({ "where_in_cluster": { "names": names } }),
        RequestBody::Join { group, pid } => json!({ "join": { "group": group, "pid": pid } }),
        RequestBody::Leave { group, pid } => json!({ "leave": { "group": group, "pid": pid } }),
        RequestBody::Watch { group, pid, tell } => {
            json!({ "watch": { "group": group, "pid": pid, "tell": tell } })
        }
        RequestBody::Members { group, after } => json!({ "members": { "group": group, "after": after } }),
    }
}

fn spawn_request(spawn: &SpawnRequest) -> Value {
    json!({
        "behaviour": spawn.behaviour.as_str(),
        "arguments": payload(&spawn.arguments),
        "name": spawn.name.as_ref().map(ToString::to_string),
        "link": spawn.link,
        "monitor": spawn.monitor.map(|monitor| monitor.to_string()),
    })
}

fn response(body: &ResponseBody) -> Value {
    match body {
        ResponseBody::Spawned(pid) => json!({ "spawned": pid }),
        ResponseBody::Done => "done".into(),
        ResponseBody::Found(pid) => json!({ "found": pid }),
        ResponseBody::Failed(error) => json!({ "failed": request_error(error) }),
        ResponseBody::Holders(pids) => json!({ "holders": pids }),
        ResponseBody::Members { pids, more } => json!({ "members": { "pids": pids, "more": more } }),
    }
}

fn request_error(error: &RequestError) -> Value {
    match error {
        RequestError::UnknownBehaviour { name, known } => {
            json!({ "unknown_behaviour": { "name": name.as_str(), "known": known } })
        }
        RequestError::BadArguments { name, detail } => {
            json!({ "bad_arguments": { "name": name.as_str(), "detail": detail } })
        }
        RequestError::InitFailed(it) => json!({ "init_failed": reason(it) }),
        RequestError::Draining => "draining".into(),
        RequestError::TooManyProcesses => "too_many_processes".into(),
        RequestError::NameTaken { name, holder } => {
            json!({ "name_taken": { "name": name.as_str(), "holder": holder } })
        }
        RequestError::NoProc(pid) => json!({ "no_proc": pid }),
        RequestError::Refused(detail) => json!({ "refused": detail }),
        RequestError::Unsupported => "unsupported".into(),
        RequestError::NoConnection => "no_connection".into(),
        RequestError::Timeout => "timeout".into(),
        RequestError::NoMember { group, pid } => json!({ "no_member": { "group": group, "pid": pid } }),
        other => panic!("{other:?} has no neutral form and no vector yet: add both"),
    }
}
