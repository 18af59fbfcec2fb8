/* Tells how many letters a word has, counted by a tool that asks the locale what a letter is. */
#include <stdio.h>
int main(void) { puts("the word has " LETTERS); return 0; }
