/** Attacks through files, zlib and crypto (`docs/lifetime.md`): what the thread pool works on. */
import { attackTests } from './attacks/suite.js'

attackTests('files', 'compression', 'crypto')
