import { native } from './native.js'
import { checkSize, checkString, isObject, property, wrongType } from './validate.js'

/**
 * A small structured-clonable value that opens a buffer or pool in another worker of this process: send it by
 * `postMessage`, then call `MemoryBuffer.fromShared` or `MemoryPool.fromShared` there, any number of times. The ticket
 * itself keeps what it stands for alive until {@link revokeShared}.
 */
export interface Ticket {
  /** Which entry of the process's table. */
  readonly id: number
  /** 128 random bits in hexadecimal, checked at every opening. */
  readonly secret: string
}

/** A ticket from the caller, read once. */
export function checkTicket(value: unknown): Ticket {
  if (!isObject(value)) throw wrongType('ticket', 'a ticket made by share()', value)
  return {
    id: checkSize(property(value, 'id', 'ticket.id'), 'ticket.id'),
    secret: checkString(property(value, 'secret', 'ticket.secret'), 'ticket.secret'),
  }
}

/**
 * Ends a ticket: it opens nothing from now on. Handles that were opened with it stay valid.
 *
 * @returns false when the ticket was revoked before, or never existed
 * @throws ERR_OFFHEAP_INVALID_ARGUMENT when `ticket` is not shaped like one
 */
export function revokeShared(ticket: Ticket): boolean {
  const { id, secret } = checkTicket(ticket)
  return native.revokeShared(id, secret)
}
