// Loaded by `node --import`: the addon that OFFHEAP_TEST_LIBRARY names is loaded wherever the loader asks for the one
// at the top of the repository. (NAPI_RS_NATIVE_LIBRARY_PATH would reach every napi-rs package, and the test suite's
// TypeScript loader is one of them.)
import { Module } from 'node:module'
import { nativeLibrary } from './platform.mjs'

const load = Module._extensions['.node']
Module._extensions['.node'] = (module, path) =>
  load(module, path === nativeLibrary ? process.env.OFFHEAP_TEST_LIBRARY : path)
