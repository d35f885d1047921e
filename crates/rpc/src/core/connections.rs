//! The connections of a core, by place.

use crate::connection::Connection;
use crate::desk::ConnectionKey;

/// A table whose keys are never used twice: a place is used again under another generation.
#[derive(Debug, Default)]
pub(super) struct Connections {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place {
    generation: u32,
    connection: Option<Box<Connection>>,
}

impl Connections {
    pub(super) fn insert(
        &mut self,
        make: impl FnOnce(ConnectionKey) -> Connection,
    ) -> ConnectionKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, connection: None });
            u32::try_from(self.places.len() - 1).expect("fewer connections than file descriptors")
        });
        let place = &mut self.places[index as usize];
        place.generation = place.generation.wrapping_add(1);
        let key = ConnectionKey { index, generation: place.generation };
        place.connection = Some(Box::new(make(key)));
        key
    }

    /// Whoever is at a place now.
    pub(super) fn at(&mut self, index: u32) -> Option<&mut Connection> {
        self.places.get_mut(index as usize)?.connection.as_deref_mut()
    }

    pub(super) fn get(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.at(key.index).filter(|connection| connection.key == key)
    }

    pub(super) fn remove(&mut self, key: ConnectionKey) -> Option<Box<Connection>> {
        self.get(key)?;
        self.free.push(key.index);
        self.places.get_mut(key.index as usize)?.connection.take()
    }

    /// Places are numbered up to here.
    pub(super) fn places(&self) -> u32 {
        u32::try_from(self.places.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }
}
