//! The behaviours that a node starts by name, for itself and for others (R1). Nothing else can be started from outside:
//! no code travels.

use std::{collections::BTreeMap, fmt, sync::Arc};

use rookery_protocol::{BehaviourName, ParseIdError, Payload, request::RequestError};

use crate::{
    behaviour::{
        server::Server,
        starting::{Done, Starting},
    },
    message::{self, Message},
    process::context::Context,
    runtime::Runtime,
    spawn::{IntoExit, SpawnOptions},
};

type Factory = dyn Fn(&Runtime, &BehaviourName, Payload, SpawnOptions, Done) + Send + Sync;

/// Behaviours by name.
#[derive(Clone, Default)]
pub struct Behaviours {
    factories: BTreeMap<BehaviourName, Arc<Factory>>,
}

impl Behaviours {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds server `S` under `name`; a former behaviour of that name is replaced.
    ///
    /// # Errors
    /// When `name` is not a valid name.
    pub fn server<S: Server>(mut self, name: &str) -> Result<Self, ParseIdError> {
        let factory =
            |runtime: &Runtime, name: &BehaviourName, arguments: Payload, options: SpawnOptions, done: Done| {
                let arguments = match message::decode::<S::Arguments>(&arguments, runtime, None) {
                    Ok((arguments, _)) => arguments,
                    Err((detail, _)) => return done(Err(RequestError::BadArguments { name: name.clone(), detail })),
                };
                drop(runtime.spawn_server::<S>(arguments, options, done));
            };
        self.factories.insert(BehaviourName::new(name)?, Arc::new(factory));
        Ok(self)
    }

    /// Adds a process under `name` that runs `f` and tells by its [`Starting`] when it is ready. `options` adds to how it
    /// is started. For processes that are no [`Server`].
    ///
    /// # Errors
    /// When `name` is not a valid name.
    pub fn process<A, M, F, Fut>(
        mut self,
        name: &str,
        options: fn(SpawnOptions) -> SpawnOptions,
        f: F,
    ) -> Result<Self, ParseIdError>
    where
        A: Message,
        M: Message,
        F: Fn(A, Context<M>, Starting) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: IntoExit,
    {
        let factory =
            move |runtime: &Runtime, name: &BehaviourName, arguments: Payload, asked: SpawnOptions, done: Done| {
                let arguments = match message::decode::<A>(&arguments, runtime, None) {
                    Ok((arguments, _)) => arguments,
                    Err((detail, _)) => return done(Err(RequestError::BadArguments { name: name.clone(), detail })),
                };
                let f = f.clone();
                runtime.spawn_starting(options(asked), done, move |context, starting| f(arguments, context, starting));
            };
        self.factories.insert(BehaviourName::new(name)?, Arc::new(factory));
        Ok(self)
    }

    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &BehaviourName> {
        self.factories.keys()
    }

    pub(crate) fn start(
        &self,
        runtime: &Runtime,
        name: &BehaviourName,
        arguments: Payload,
        options: SpawnOptions,
        done: Done,
    ) {
        match self.factories.get(name) {
            Some(factory) => factory(runtime, name, arguments, options, done),
            None => {
                let known: Vec<&str> = self.names().map(BehaviourName::as_str).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                done(Err(RequestError::UnknownBehaviour { name: name.clone(), known }));
            }
        }
    }
}

impl fmt::Debug for Behaviours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}
