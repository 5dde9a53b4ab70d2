// SPDX-License-Identifier: GPL-2.0-only

use kernel::{
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Completion, //
    },
    workqueue::{
        self,
        Queue, //
    },
};

use crate::gpuvm_rs::{
    fence::Fence,
    gem::GemObject,
    idle::{
        self,
        WhenIdle, //
    },
};

/// Says that an object is idle.
struct Tell {
    obj: ARef<GemObject>,
    done: Arc<Completion>,
}

impl WhenIdle for Tell {
    fn busy(&self) -> Option<ARef<Fence>> {
        self.obj.busy()
    }

    fn run(self) -> Option<Self> {
        if self.obj.busy().is_some() {
            return Some(self);
        }
        let Self { obj, done } = self;
        // Who waits may take the object's device away.
        drop(obj);
        done.complete_all();
        None
    }

    fn queue() -> &'static Queue {
        workqueue::system_unbound()
    }
}

/// Completes `done` once `obj` is idle. No thread waits for that.
pub(super) fn tell(obj: ARef<GemObject>, done: Arc<Completion>) -> Result {
    idle::when_idle(Tell { obj, done })
}
