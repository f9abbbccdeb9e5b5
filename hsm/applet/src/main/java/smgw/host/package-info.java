/**
 * The card's surroundings on a computer: runs the applet in jCardSim, keeps its memory in a file, and speaks the vpcd protocol. Nothing of
 * this goes onto a card.
 */
package smgw.host;
