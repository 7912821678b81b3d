import { type CudaEvent, eventInternals } from '../cuda/event.js'
import { type CudaStream, streamInternals } from '../cuda/stream.js'
import { InvalidArgumentError } from '../errors.js'
import { option } from '../validate.js'

/** When the bytes of an export are there. Only memory of a GPU has events. */
export interface ProducerOptions {
  /** At this event, which the export keeps. */
  event?: CudaEvent | undefined
  /** At the end of what this stream has now. Without `event` and `stream`: of what the buffer's own has. */
  stream?: CudaStream | undefined
}

/** Who waits for the bytes of an import. */
export interface ConsumerOptions {
  /** Later work of this stream, in whose order the buffer is then used. Absent: the call waits. */
  stream?: CudaStream | undefined
}

/** The ids for native code, 0 for none. Read when all other options were: reading runs the caller's code. */
export function producerMoment(options: unknown): { event: number; stream: number } {
  const event = option(options, 'event', eventInternals.check, undefined)
  const stream = option(options, 'stream', streamInternals.check, undefined)
  if (event !== undefined && stream !== undefined) throw new InvalidArgumentError('options: either event or stream, not both')
  return {
    event: event === undefined ? 0 : eventInternals.id(event),
    stream: stream === undefined ? 0 : streamInternals.id(stream),
  }
}

/** The id for native code, 0 for none. */
export { streamOption as consumerStream } from '../cuda/stream.js'
