"""From the lines of a file to totals and findings, in this process or shared among several."""
