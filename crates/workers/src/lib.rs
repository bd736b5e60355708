//! workerd: configuration, sandbox, bindings and bundling of workers.
